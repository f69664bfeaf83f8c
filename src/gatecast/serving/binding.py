"""What the names of a request mean: its model spec, and the names of its inputs and outputs.

With a model's name, TensorFlow Serving's rules hold to the letter. Without one the request is taken to come
from one of the original clients, whose habits are understood.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gatecast.graph import Signature, TensorSpec
from gatecast.serving.models import ModelVersion, Session
from gatecast.serving.refusal import Code, RefusalError

DEFAULT_SIGNATURE = "serving_default"
OUTPUT_ALIAS = "output_alias"
ORIGINAL_INPUT = "images"

# For each dtype of a signature: the kinds that a request may send, the one to name in an error first.
_KINDS = {"float32": ("float",), "string": ("string", "float")}


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
    if len(found) == len(names) == len(specs) and {spec.name for spec in found.values()} == set(specs):
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


def check_batch(shapes: Mapping[str, Sequence[int]], limit: int) -> None:
    """Refuse inputs with more images, by their first dimension, than the limit."""
    for name, shape in shapes.items():
        if len(shape) and shape[0] > limit:
            raise RefusalError(
                Code.INVALID_ARGUMENT,
                f"Input {name} must have at most {limit} images, not {shape[0]}; "
                "send them in several requests",
            )


def _input_name(target: Target, name: str) -> str:
    inputs = [spec.name for spec in target.signature.inputs]
    if name in inputs or not target.lenient:
        return name
    for known in (name.removesuffix(":0"), name + ":0"):
        if known in inputs:
            return known
    return inputs[0] if len(inputs) == 1 else name


def output_keys(target: Target, wanted: Sequence[str], inputs: Collection[str]) -> dict[str, str]:
    """Return the names for the reply, and the signature's outputs they stand for.

    `wanted` is the request's filter (empty for all), `inputs` are the names of its inputs.

    Raises
    ------
    RefusalError
        A wanted name is unknown, or comes twice.
    """
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


def _set(names: Collection[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
