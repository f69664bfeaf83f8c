"""The one path from a request to its answer, which every face calls.

A face translates: it asks for the `Target` that a request means, binds the names and kinds of its inputs,
decodes them, and has the target run. What a model spec, a name or a filter means is decided here.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import GatecastError, RequestError
from gatecast.graph import Signature, TensorSpec
from gatecast.protocol import MAX_ELEMENTS
from gatecast.serving.models import Models, ModelVersion, Session, State
from gatecast.serving.refusal import Code, RefusalError, UnknownSignatureError

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]

DEFAULT_SIGNATURE = "serving_default"
OUTPUT_ALIAS = "output_alias"
ORIGINAL_INPUT = "images"

# For each dtype of a signature: the kinds that a request may send, the one to name in an error first.
_KINDS = {"float32": ("float",), "string": ("string", "float")}


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Parameters
    ----------
    request_bytes : int
        Size of a request on the wire.
    elements : int
        Elements of one tensor.
    pending : int
        Predictions that run or wait, over all callers; more are refused at once.
    timeout_s : float
        How long a request may wait for its turn, where its own deadline is not sooner.
    """

    request_bytes: int = 64 << 20
    elements: int = MAX_ELEMENTS
    pending: int = 64
    timeout_s: float = 30.0


@dataclass(frozen=True)
class Spec:
    """Which model a request asks for: version and label are None, and names empty, where it does not say."""

    name: str = ""
    version: int | None = None
    label: str | None = None
    signature_name: str = ""


@dataclass(frozen=True)
class Target:
    """The version that answers a request, and by which rules.

    `lenient` is true where the request names no model: then the original clients' habits are understood.
    """

    version: ModelVersion
    session: Session
    signature_name: str
    lenient: bool
    routed: bool

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""
        return self.session.signature


class DataPlane:
    """Resolves, checks and runs requests on the served models."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self.limits = limits
        self._models = models
        self._pending = threading.BoundedSemaphore(limits.pending)

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
        keys = _output_keys(target, output_filter, inputs)
        bound = bind_names(target, inputs)
        values = {bound[name].name: _value(name, array) for name, array in inputs.items()}
        with self._turn(target, timeout_s):
            if not is_wanted():
                raise RefusalError(Code.CANCELLED, "The caller went away before its turn came")
            results = _run(target, values, list(dict.fromkeys(keys.values())))
        return {key: results[name] for key, name in keys.items()}

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
        limit = self.limits.timeout_s if timeout_s is None else min(timeout_s, self.limits.timeout_s)
        if not self._pending.acquire(blocking=False):
            raise RefusalError(
                Code.UNAVAILABLE,
                f"The server has {self.limits.pending} predictions pending already; try again",
            )
        try:
            if not target.version.turns.acquire(timeout=max(limit, 0.0)):
                raise RefusalError(
                    Code.DEADLINE_EXCEEDED, f"Model {target.version.name} was busy for all of {limit:.3g} s"
                )
            try:
                _session(target.version)
                yield
            finally:
                target.version.turns.release()
        finally:
            self._pending.release()


def bind_names(target: Target, names: Collection[str]) -> dict[str, TensorSpec]:
    """Return which input of the signature each name of a request means.

    By the signature's names only; where the request names no model, also with or without TensorFlow's
    ending ``:0``, and for a model with one input by any name.

    Raises
    ------
    RefusalError
        Names are missing or unknown.
    """
    specs = {spec.name: spec for spec in target.signature.inputs}
    bound = {name: specs.get(_input_name(target, name), None) for name in names}
    found = {name: spec for name, spec in bound.items() if spec is not None}
    if len(found) == len(names) and {spec.name for spec in found.values()} == set(specs):
        return found
    extra, missing = set(names) - set(found), set(specs) - {spec.name for spec in found.values()}
    raise RefusalError(
        Code.INVALID_ARGUMENT,
        f"input size does not match signature: {len(names)}!={len(specs)} "
        f"len({_set(names)}) != len({_set(specs)}). "
        f"Sent extra: {_set(extra)}. Missing but required: {_set(missing)}.",
    )


def check_kinds(target: Target, bound: Mapping[str, TensorSpec], kinds: Mapping[str, str]) -> None:
    """Refuse inputs whose kind of element (``float``, ``string``, …) is not the signature's.

    An input for pictures takes their bytes, or the float tensor that preprocessing would have made.
    """
    for name, spec in bound.items():
        accepted = _KINDS[spec.dtype]
        if kinds[name] not in accepted:
            index = target.signature.inputs.index(spec)
            raise RefusalError(
                Code.INVALID_ARGUMENT,
                f"Expects arg[{index}] to be {' or '.join(accepted)} but {kinds[name]} is provided",
            )


def _input_name(target: Target, name: str) -> str:
    inputs = [spec.name for spec in target.signature.inputs]
    if name in inputs or not target.lenient:
        return name
    for known in (name.removesuffix(":0"), name + ":0"):
        if known in inputs:
            return known
    return inputs[0] if len(inputs) == 1 else name


def _output_keys(target: Target, wanted: Sequence[str], inputs: Collection[str]) -> dict[str, str]:
    """Return the names for the reply, and the signature's outputs they stand for."""
    names = [spec.name for spec in target.signature.outputs]
    known = {name: name for name in names}
    single = len(names) == 1
    if target.lenient:
        known = {**target.session.output_aliases, **({OUTPUT_ALIAS: names[0]} if single else {}), **known}
    for position, name in enumerate(wanted):
        if name not in known:
            raise RefusalError(
                Code.INVALID_ARGUMENT,
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_set(names)}.",
            )
        if name in wanted[:position]:
            raise RefusalError(Code.INVALID_ARGUMENT, f"duplicate output tensor alias: {name}")
    if wanted:
        return {name: known[name] for name in wanted}
    also_alias = target.lenient and single and (not target.routed or ORIGINAL_INPUT in inputs)
    return {name: name for name in names} | ({OUTPUT_ALIAS: names[0]} if also_alias else {})


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
        raise RefusalError(Code.INVALID_ARGUMENT, str(error)) from error
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


def _set(names: Collection[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
