"""The client of a model server: ours, TensorFlow Serving, or another that speaks its protocol."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from gatecast.client.address import read_address
from gatecast.client.transport import CallError, GrpcTransport, Transport
from gatecast.errors import FileError, GatecastError, NotFoundError, RequestError, ServingError
from gatecast.protocol import (
    GET_LABELS,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    PREDICT,
    Method,
    SignatureDefMap,
    decode_tensor,
    dtype_name,
    encode_tensor,
)

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Values = Array | Sequence[bytes] | bytes

DEFAULT_PORT = 8500
ROUTE_HEADER = "x-ms-aml-grpc-service-route"
OUTPUT_ALIAS = "output_alias"
_MAX_ANSWER_ELEMENTS = 1 << 31
_CALLERS_MISTAKES = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE")


@dataclass(frozen=True)
class Retry:
    """Calls that no server took (UNAVAILABLE) are made again; a prediction changes nothing, so that is safe.

    Parameters
    ----------
    attempts : int
        Calls at most.
    first_wait_s : float
        Before the second; doubles each time.
    """

    attempts: int = 4
    first_wait_s: float = 0.1


@dataclass(frozen=True)
class TensorInfo:
    """One input or output as a server describes it: `dtype` in TensorFlow's words, -1 in `shape` for any."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelInfo:
    """What a server says of a model: name, version, and the inputs and outputs of one signature."""

    name: str
    version: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True)
class VersionStatus:
    """State of one version: ``START``, ``LOADING``, ``AVAILABLE``, ``UNLOADING`` or ``END``."""

    version: int
    state: str
    error: str = ""


class PredictionClient:
    """Sends predictions to a model server over gRPC.

    It may be used from several threads, and as a context manager.

    Parameters
    ----------
    address : str
        Host, ``HOST:PORT``, or a service's address as in ``http://127.0.0.1/``; ``https`` means TLS.
    port : int, optional
        By default the one in `address`, else 8500; 80 or 443 if the address has a scheme.
    use_ssl : bool
        Use TLS, with the system's roots unless `credentials` are given.
    access_token : str
        A key; sent as ``authorization: Bearer KEY``.
    service_name : str
        Which service a front door should route to.
    model : str
        Name of the model to ask; empty for the only one of the server.
    credentials : grpc.ChannelCredentials, optional
        For TLS with roots or a certificate of one's own.
    retry : Retry
        When to call again.
    transport : Transport, optional
        Instead of gRPC.
    """

    def __init__(
        self,
        address: str,
        port: int | None = None,
        use_ssl: bool = False,
        access_token: str = "",
        service_name: str = "",
        *,
        model: str = "",
        credentials: Any = None,
        retry: Retry | None = None,
        transport: Transport | None = None,
    ) -> None:
        server = read_address(address)
        use_ssl = use_ssl or server.is_secure
        default = server.port or server.scheme_port or DEFAULT_PORT
        self.address = server.target(default if port is None else port)
        self.model = model
        self.metadata_headers: list[tuple[str, str]] = []
        if access_token:
            self.metadata_headers.append(("authorization", f"Bearer {access_token}"))
        if service_name:
            self.metadata_headers.append((ROUTE_HEADER, f"/api/v1/service/{service_name}"))
        if use_ssl and credentials is None:
            credentials = grpc.ssl_channel_credentials()
        self._retry = retry or Retry()
        self._transport = transport or GrpcTransport(self.address, credentials)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._transport.close()

    def predict(
        self,
        inputs: Mapping[str, Values],
        *,
        model: str | None = None,
        version: int | None = None,
        signature_name: str = "",
        outputs: Sequence[str] = (),
        timeout: float | None = 30.0,
    ) -> dict[str, Array]:
        """Return the outputs of a prediction by name.

        Parameters
        ----------
        inputs : mapping
            By name: an array, or the bytes of one encoded picture, or a sequence of them.
        model, version : str, int, optional
            Whom to ask; by default the client's model and its newest version.
        signature_name : str
            Of the model; ``serving_default`` if empty.
        outputs : sequence of str
            Only these; all if empty.
        timeout : float, optional
            In seconds.

        Raises
        ------
        RequestError
            The server refused the inputs; the text is the server's.
        NotFoundError
            The server has no such model or version.
        ServingError
            No answer.
        """
        request = PREDICT.request(output_filter=outputs)
        for name, values in inputs.items():
            encode_tensor(request.inputs[name], values, content=True)
        self._specify(request.model_spec, model, version)
        request.model_spec.signature_name = signature_name
        answer = self._call(PREDICT, request, timeout)
        arrays = {
            name: decode_tensor(answer.outputs[name], _MAX_ANSWER_ELEMENTS) for name in sorted(answer.outputs)
        }
        if len(arrays) == 2 and not outputs:
            arrays.pop(OUTPUT_ALIAS, None)  # a second name of the only output, for the original clients
        return arrays

    def score_file(
        self,
        path: str | os.PathLike[str],
        input_name: str = "images",
        outputs: str | Sequence[str] | None = None,
        timeout: float | None = 10.0,
    ) -> Array | list[Array]:
        """Return the answer for one encoded picture, sent as it is.

        One output has no batch dimension; several are a list, and keep it.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise FileError(f"Picture {os.fspath(path)} must be readable, but {error.strerror}") from error
        result = self._score({input_name: [data]}, outputs, timeout)
        return result if isinstance(result, list) else result[0]

    def score_numpy_arrays(
        self,
        input_map: Mapping[str, Values],
        outputs: str | Sequence[str] | None = None,
        timeout: float | None = 30.0,
    ) -> Array | list[Array]:
        """Return the answer for arrays, or lists of bytes, by input name; the batch dimension stays."""
        return self._score(input_map, outputs, timeout)

    def score_tensors(
        self,
        input_map: Mapping[str, tuple[bytes, Sequence[int], str]],
        outputs: str | Sequence[str] | None = None,
        timeout: float | None = 10.0,
    ) -> Array | list[Array]:
        """Return the answer for raw tensors: by input name (bytes, shape, NumPy dtype or ``string``).

        The bytes of a ``string`` tensor are its one element.
        """
        return self._score(
            {name: _raw(name, *tensor) for name, tensor in input_map.items()}, outputs, timeout
        )

    def describe(
        self, model: str | None = None, version: int | None = None, timeout: float = 10.0
    ) -> ModelInfo:
        """Return inputs and outputs of a model, which must be named: here, or when the client was made."""
        request = GET_MODEL_METADATA.request(metadata_field=["signature_def"])
        self._specify(request.model_spec, model, version)
        answer = self._call(GET_MODEL_METADATA, request, timeout)
        signatures = SignatureDefMap.FromString(answer.metadata["signature_def"].value)
        signature = signatures.signature_def["serving_default"]
        return ModelInfo(
            answer.model_spec.name,
            answer.model_spec.version.value,
            _infos(signature.inputs),
            _infos(signature.outputs),
        )

    def status(
        self, model: str | None = None, version: int | None = None, timeout: float = 10.0
    ) -> list[VersionStatus]:
        """Return the state of the versions of a model, newest first."""
        request = GET_MODEL_STATUS.request()
        self._specify(request.model_spec, model, version)
        answer = self._call(GET_MODEL_STATUS, request, timeout)
        states = (
            type(answer)
            .DESCRIPTOR.fields_by_name["model_version_status"]
            .message_type.enum_types_by_name["State"]
        )
        return [
            VersionStatus(item.version, states.values_by_number[item.state].name, item.status.error_message)
            for item in answer.model_version_status
        ]

    def labels(
        self, model: str | None = None, version: int | None = None, timeout: float = 10.0
    ) -> tuple[str, ...]:
        """Return the class labels of a model in the order of its scores.

        Empty if it has none, or if the server is not Gatecast's.
        """
        request = GET_LABELS.request()
        self._specify(request.model_spec, model, version)
        try:
            return tuple(self._call(GET_LABELS, request, timeout).labels)
        except CallError as error:
            if error.code == "UNIMPLEMENTED":
                return ()
            raise

    def _specify(self, spec: Any, model: str | None, version: int | None) -> None:
        spec.name = self.model if model is None else model
        if version is not None:
            spec.version.value = version

    def _score(
        self, inputs: Mapping[str, Values], outputs: str | Sequence[str] | None, timeout: float | None
    ) -> Array | list[Array]:
        wanted = [outputs] if isinstance(outputs, str) else list(outputs or ())
        arrays = self.predict(inputs, outputs=wanted, timeout=timeout)
        if missing := [name for name in wanted if name not in arrays]:
            raise ServingError(
                f"Answer of {self.address} must have output {missing[0]}, but has {sorted(arrays)}"
            )
        if isinstance(outputs, str):
            return arrays[outputs]
        if outputs is None and len(arrays) == 1:
            return next(iter(arrays.values()))
        return [arrays[name] for name in wanted or arrays]

    def _call(self, method: Method, request: Any, timeout_s: float | None) -> Any:
        data = request.SerializeToString()
        answer = self._retried(
            lambda: self._transport.call(method.path, data, timeout_s, self.metadata_headers)
        )
        try:
            return method.response.FromString(answer)
        except DecodeError as error:
            raise ServingError(
                f"Answer of {self.address} must be a {method.response.DESCRIPTOR.name}"
            ) from error

    def _retried(self, call: Callable[[], bytes]) -> bytes:
        wait_s = self._retry.first_wait_s
        for attempt in range(1, self._retry.attempts + 1):
            try:
                return call()
            except CallError as error:
                if error.code != "UNAVAILABLE" or attempt == self._retry.attempts:
                    raise _explained(error, self.address) from error
                logger.info(
                    "%s is unavailable (attempt %d of %d)", self.address, attempt, self._retry.attempts
                )
            time.sleep(wait_s)
            wait_s *= 2
        raise ServingError(f"Retry must have at least 1 attempt, not {self._retry.attempts}")


def _explained(error: CallError, address: str) -> GatecastError:
    if error.code in _CALLERS_MISTAKES:
        return RequestError(str(error), hint=error.told)
    if error.code == "NOT_FOUND":
        hint = error.told or f"Ask {address} with another model name or version."
        return NotFoundError(str(error), hint)
    if error.code == "UNAVAILABLE":
        text = f"No server answers at {address}: {error}"
    elif error.code == "DEADLINE_EXCEEDED":
        text = f"Server at {address} did not answer in time: {error}"
    else:
        text = f"Server at {address} answered {error.code}: {error}"
    return CallError(error.code, text, error.told)


def _raw(name: str, data: bytes, shape: Sequence[int], dtype: str) -> Array:
    if dtype == "string":
        array = np.empty(1, object)
        array[0] = data
    else:
        try:
            array = np.frombuffer(data, dtype)
        except (TypeError, ValueError) as error:
            raise RequestError(f"Tensor {name} must be the bytes of {dtype} numbers: {error}") from error
    try:
        return array.reshape(shape)
    except ValueError:
        raise RequestError(
            f"Tensor {name} of shape {list(shape)} must not have {array.size} elements"
        ) from None


def _infos(tensors: Mapping[str, Any]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(
            name, dtype_name(tensors[name].dtype), tuple(dim.size for dim in tensors[name].tensor_shape.dim)
        )
        for name in sorted(tensors)
    )
