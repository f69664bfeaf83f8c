"""Stands for `azureml.accel`'s client."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

import gatecast.client
from gatecast.errors import GatecastError, NotFoundError, RequestError

Array = npt.NDArray[Any]

ATTEMPTS, FIRST_WAIT_S = 5, 1.0
STRING = 7
"""TensorFlow's number of strings."""


class ScoringError(grpc.RpcError):  # type: ignore[misc]
    """A call that failed, as the old client's users catch it."""

    def __init__(self, error: GatecastError) -> None:
        super().__init__(str(error))
        self._code = _code(error)

    def code(self) -> grpc.StatusCode:
        """Return gRPC's status."""
        return self._code

    def details(self) -> str:
        """Return what went wrong."""
        return str(self)


class PredictionClient:
    """Scores pictures and tensors.

    Parameters
    ----------
    address : str
        Host. A port in it wins over `port`: old scripts pass 80 or 443 whatever the service's address is.
    port : int, optional
        By default 443 with TLS, else 80.
    use_ssl, access_token, service_name
        See `gatecast.client.PredictionClient`.
    channel_shutdown_timeout : timedelta
        Not needed: gRPC closes idle connections itself.
    """

    def __init__(
        self,
        address: str,
        port: int | None = None,
        use_ssl: bool = False,
        access_token: str = "",
        service_name: str = "",
        channel_shutdown_timeout: timedelta = timedelta(minutes=2),
    ) -> None:
        if address is None:
            raise ValueError("address")
        server = gatecast.client.read_address(address)
        default = server.scheme_port or (443 if use_ssl else 80)
        self._client = gatecast.client.PredictionClient(
            address,
            server.port or port or default,
            use_ssl,
            access_token,
            service_name,
            retry=gatecast.client.Retry(ATTEMPTS, FIRST_WAIT_S),
        )

    def score_file(
        self,
        path: str,
        input_name: str = "images",
        outputs: str | Sequence[str] | None = None,
        timeout: float = 10.0,
    ) -> Array | list[Array]:
        """Return the answer for one picture; one output has no batch dimension, several keep it."""
        try:
            return self._client.score_file(path, input_name, outputs, timeout)
        except GatecastError as error:
            raise ScoringError(error) from error

    def score_numpy_arrays(
        self, input_map: dict[str, Any], outputs: str | Sequence[str] | None = None
    ) -> Array | list[Array]:
        """Return the answer for arrays by input name; the batch dimension stays."""
        try:
            return self._client.score_numpy_arrays(input_map, outputs)
        except GatecastError as error:
            raise ScoringError(error) from error

    def score_tensors(
        self,
        input_map: dict[str, tuple[bytes, Sequence[int], Any]],
        outputs: str | Sequence[str] | None = None,
        timeout: float = 10.0,
    ) -> Array | list[Array]:
        """Return the answer for tensors: by input name (bytes, shape, TensorFlow's dtype)."""
        tensors = {name: (data, shape, _dtype(dtype)) for name, (data, shape, dtype) in input_map.items()}
        try:
            return self._client.score_tensors(tensors, outputs, timeout)
        except GatecastError as error:
            raise ScoringError(error) from error


def _dtype(dtype: Any) -> str:
    """NumPy's name of a dtype of TensorFlow's: its number, or an object that can be asked."""
    if dtype in (STRING, "string") or getattr(dtype, "as_datatype_enum", None) == STRING:
        return "string"
    if hasattr(dtype, "as_numpy_dtype"):
        return str(np.dtype(dtype.as_numpy_dtype).name)
    return {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 9: "int64"}.get(dtype, str(dtype))


def _code(error: GatecastError) -> grpc.StatusCode:
    if isinstance(error, RequestError):
        return grpc.StatusCode.INVALID_ARGUMENT
    if isinstance(error, NotFoundError):
        return grpc.StatusCode.NOT_FOUND
    name = getattr(error, "code", "UNKNOWN")
    return grpc.StatusCode[name] if name in grpc.StatusCode.__members__ else grpc.StatusCode.UNKNOWN
