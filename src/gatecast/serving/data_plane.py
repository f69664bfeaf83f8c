"""The one path from a request to its answer, which every face calls.

A face translates: it asks for the `Target` that a request means, binds the names and kinds of its inputs,
decodes them, and has the target run.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import GatecastError, RequestError
from gatecast.protocol import MAX_ELEMENTS
from gatecast.serving.binding import DEFAULT_SIGNATURE, Spec, Target, bind_names, check_batch, output_keys
from gatecast.serving.gate import Gate
from gatecast.serving.models import Models, ModelVersion, Session, State
from gatecast.serving.refusal import Code, RefusalError, UnknownSignatureError, refusal_of

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Parameters
    ----------
    request_bytes : int
        Size of a request on the wire.
    elements : int
        Elements of one tensor.
    batch : int
        Images in one request: a few bytes can ask for very many, as one value fills a whole tensor.
    pending : int
        Predictions that run or wait, over all callers; more are refused at once.
    timeout_s : float
        How long a request may wait for its turn, where its own deadline is not sooner.
    """

    request_bytes: int = 64 << 20
    elements: int = MAX_ELEMENTS
    batch: int = 1024
    pending: int = 64
    timeout_s: float = 30.0


class DataPlane:
    """Resolves, checks and runs requests on the served models."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self.limits = limits
        self._models = models
        self._gate = Gate(limits.pending)

    def target(self, spec: Spec, route: str | None = None) -> Target:
        """Return what answers a prediction.

        Parameters
        ----------
        spec : Spec
            As the request says.
        route : str, optional
            The original clients' header; its last part names a model. It counts only without a name, and
            a port with one model answers any route.
        """
        name = spec.name or self._unnamed(route)
        version = self._models.find(name, spec.version, spec.label)
        if spec.signature_name not in ("", DEFAULT_SIGNATURE):
            raise UnknownSignatureError(spec.signature_name)
        return Target(version, _session(version), DEFAULT_SIGNATURE, not spec.name, route is not None)

    def described(self, spec: Spec) -> Target:
        """Return what a request for metadata is about; unlike `target`, only by name."""
        if not spec.name:
            raise RefusalError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        version = self._models.find(spec.name, spec.version, spec.label)
        return Target(version, _session(version), DEFAULT_SIGNATURE, lenient=False, routed=False)

    def statuses(self, spec: Spec) -> list[ModelVersion]:
        """Return the versions whose status is asked for, newest first."""
        if spec.label is not None:
            return [self._models.find(spec.name, label=spec.label)]
        versions = self._models.versions(spec.name)
        if spec.version is not None:
            if spec.version == 0 and not any(v.number == 0 for v in versions):
                return versions[:1] or self._no_version(spec)
            versions = [v for v in versions if v.number == spec.version]
        return versions or self._no_version(spec)

    def run(
        self,
        target: Target,
        inputs: Mapping[str, Array],
        output_filter: Sequence[str] = (),
        *,
        timeout_s: float | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> dict[str, Array]:
        """Run a prediction.

        Parameters
        ----------
        target : Target
            What answers.
        inputs : mapping
            Arrays by the names that the request gave them (`bind` has accepted them); strings are object
            arrays of bytes.
        output_filter : sequence of str
            Which outputs; empty for all.
        timeout_s : float, optional
            Until the caller's deadline.
        is_wanted : callable
            Whether the caller still waits; asked just before the run.

        Returns
        -------
        dict
            float32 arrays by the names for the reply.

        Raises
        ------
        RefusalError
            With the code for the caller.
        """
        keys = output_keys(target, output_filter, inputs)
        bound = bind_names(target, inputs)
        check_batch({name: array.shape for name, array in inputs.items()}, self.limits.batch)
        values = {bound[name].name: _value(name, array) for name, array in inputs.items()}
        with self._turn(target, timeout_s):
            if not is_wanted():
                raise RefusalError(Code.CANCELLED, "The caller went away before its turn came")
            results = _run(target, values, list(dict.fromkeys(keys.values())))
        return {key: results[name] for key, name in keys.items()}

    def drain(self, timeout_s: float) -> bool:
        """Take no more predictions; return whether those in flight ended within the time."""
        return self._gate.drain(timeout_s)

    def _unnamed(self, route: str | None) -> str:
        names = self._models.names
        routed = (route or "").rstrip("/").rpartition("/")[2]
        if routed not in names and len(names) != 1:
            raise RefusalError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        name = routed if routed in names else names[0]
        if any(version.state in (State.START, State.LOADING) for version in self._models.versions(name)):
            raise RefusalError(Code.UNAVAILABLE, f"Model {name} is loading")
        return name

    def _no_version(self, spec: Spec) -> list[ModelVersion]:
        what = "any versions" if spec.version is None else f"version {spec.version}"
        raise RefusalError(Code.NOT_FOUND, f"Could not find {what} of model {spec.name}")

    @contextmanager
    def _turn(self, target: Target, timeout_s: float | None) -> Iterator[None]:
        limit = (
            self.limits.timeout_s if timeout_s is None else max(0.0, min(timeout_s, self.limits.timeout_s))
        )
        with self._gate.passing():
            if not target.version.turns.acquire(timeout=limit):
                raise RefusalError(
                    Code.DEADLINE_EXCEEDED, f"Model {target.version.name} was busy for all of {limit:.3g} s"
                )
            try:
                _session(target.version)
                yield
            finally:
                target.version.turns.release()


def _value(name: str, array: Array) -> Array | list[bytes]:
    if array.dtype != object:
        return array
    if array.ndim != 1:
        raise RefusalError(
            Code.INVALID_ARGUMENT,
            f"Input {name} must be a vector of strings, shape [n], not of shape {list(array.shape)}",
        )
    strings: list[bytes] = array.tolist()
    return strings


def _run(
    target: Target, values: Mapping[str, Array | list[bytes]], outputs: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    try:
        return target.session.run(values, outputs)
    except RequestError as error:
        raise refusal_of(error) from error
    except GatecastError as error:
        logger.error("Model %s version %d failed: %s", target.version.name, target.version.number, error)
        raise RefusalError(Code.INTERNAL, str(error)) from error
    except Exception as error:
        logger.exception("Model %s version %d failed", target.version.name, target.version.number)
        raise RefusalError(
            Code.INTERNAL,
            f"Model {target.version.name} failed to run ({type(error).__name__}); see the server's log",
        ) from error


def _session(version: ModelVersion) -> Session:
    session = version.session
    if session is None:  # unloaded since it was found
        raise RefusalError(
            Code.UNAVAILABLE, f"Model {version.name} version {version.number} is being unloaded"
        )
    return session
