"""Finds the part of a graph that turns encoded pictures into a tensor, and says it as a `Preprocessing`.

What the part does is read from its nodes (decoder, resize, crop, constants of the arithmetic) and then tried:
it must compute, bit for bit, what the `Preprocessing` means on pictures of many shapes. A part that cannot be
said exactly is refused, with the nodes that stand in the way.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from gatecast.errors import UnsupportedError
from gatecast.graph import Preprocessing

from .loops import is_inside
from .nodes import Nodes
from .pixels import DECODERS, Channel, NotAnImageError, Pixels, Step, read_pixels
from .probes import OtherPicturesError, Probe

_STAGE_OPS = frozenset(
    (
        *DECODERS,
        *"Placeholder PlaceholderWithDefault Const Identity IdentityN StopGradient PreventGradient".split(),
        *"Shape ShapeN Size Rank StridedSlice Slice Pack Unpack ConcatV2 Split SplitV ExpandDims".split(),
        *"Squeeze Reshape Range Fill GatherV2 ReverseV2 Cast EnsureShape CheckNumerics Snapshot".split(),
        *"Greater GreaterEqual Less LessEqual Equal NotEqual LogicalAnd LogicalOr LogicalNot".split(),
        *"Maximum Minimum Mul Sub Add AddV2 BiasAdd RealDiv Div FloorDiv FloorMod Floor Ceil Round".split(),
        *"Neg Select SelectV2 Assert NoOp ResizeBilinear".split(),
        *"Switch Merge Enter Exit NextIteration LoopCond While StatelessWhile If StatelessIf".split(),
        *"TensorArrayV3 TensorArrayScatterV3 TensorArrayReadV3 TensorArrayWriteV3".split(),
        *"TensorArrayGatherV3 TensorArraySizeV3 TensorListReserve TensorListFromTensor".split(),
        *"TensorListGetItem TensorListSetItem TensorListStack TensorListLength".split(),
    )
)
"""Operators that a stage may hold anywhere, in what computes sizes too."""

_ORDER = ("div", "sub", "div", "mul")
_FIELDS = ("divide", "mean", "std", "scale")


@dataclass(frozen=True)
class ImageStage:
    """A stage that was found.

    Parameters
    ----------
    tensor : str
        The tensor that the network reads, float32 [N, height, width, channels].
    preprocessing : Preprocessing
    rest : tuple of steps for each channel
        Arithmetic on `tensor` that `Preprocessing` has no place for: it belongs to the network.
    batch : int, optional
        1 where the graph takes one picture, None where it takes any number of them.
    """

    tensor: str
    preprocessing: Preprocessing
    rest: tuple[tuple[Step, ...], ...]
    batch: int | None


def find_image_stage(nodes: Nodes, placeholder: str, outputs: Sequence[str]) -> ImageStage:
    """Return the stage between a placeholder of strings and the network.

    Raises
    ------
    UnsupportedError
        There is no tensor at which the stage ends, or what comes before cannot be said as a
        `Preprocessing`; the nodes in the way are named.
    """
    reasons: list[str] = []
    ends = []
    for tensor in _ends(nodes, placeholder, outputs):
        try:
            ends.append(_End(nodes, tensor))
        except NotAnImageError as error:
            reasons.append(str(error))
    for end in sorted(ends, key=lambda end: end.has_rest):  # stable: among equals the furthest
        try:
            return _stage(nodes, placeholder, end)
        except NotAnImageError as error:
            reasons.append(str(error))
    if reasons:
        detail = "; ".join(dict.fromkeys(reasons[:3]))
    else:
        detail = "these nodes are no part of one: " + "; ".join(_strangers(nodes, placeholder, outputs))
    raise UnsupportedError(
        f"Input {placeholder} must lead to an image stage that decodes, resizes, crops and normalises "
        f"pictures, but {detail}",
        hint="Build the stage as azureml.accel.models.preprocess_array does, or give the tensor behind the "
        "stage as input.",
    )


def _ends(nodes: Nodes, placeholder: str, outputs: Sequence[str]) -> Iterator[str]:
    """Tensors where a stage may end, the furthest first: all ways from the placeholder go through them."""
    start = nodes.node(placeholder).name
    strange = _strange(nodes, nodes.ancestors(outputs))
    inside = nodes.descendants([start]) & nodes.ancestors(outputs) - nodes.descendants(strange)
    found = []
    for name in inside - {start}:
        tensor = f"{name}:0"
        if nodes.by_name[name].op in ("NoOp", "Assert") or nodes.tensors.dtype(tensor) != tf.float32:
            continue
        if start not in nodes.ancestors(outputs, stops=[tensor]) and not is_inside(nodes, tensor):
            found.append((len(nodes.ancestors([tensor])), tensor))
    yield from (tensor for _, tensor in sorted(found, reverse=True))


def _strange(nodes: Nodes, names: Collection[str]) -> list[str]:
    """Those of these nodes that no stage holds, themselves or in a function that they call."""
    return [name for name in names if set(nodes.ops_of([name]).values()) - _STAGE_OPS]


def _strangers(nodes: Nodes, placeholder: str, outputs: Sequence[str]) -> list[str]:
    """The nodes nearest to the placeholder that no stage holds, with their operators."""
    start = nodes.node(placeholder).name
    strange = _strange(nodes, nodes.ancestors(outputs))
    behind = nodes.descendants([start])
    near = set(strange) - behind or nodes.descendants([start], stops=strange) & set(strange)
    found = [
        f"{inner} ({op})"
        for name in sorted(near)
        for inner, op in nodes.ops_of([name]).items()
        if op not in _STAGE_OPS
    ]
    return found or [f"{start} (its strings are never decoded)"]


class _End:
    """A tensor where a stage may end, with what its nodes say about it."""

    def __init__(self, nodes: Nodes, tensor: str) -> None:
        self.tensor = tensor
        self.pixels = read_pixels(nodes, tensor)
        self.order = _order(self.pixels.channels)
        kinds, numbers = _arithmetic(self.pixels.channels)
        self.fields, used = _fitted(kinds, numbers)
        self.rest = tuple(channel.steps[used:] for channel in self.pixels.channels)
        self.has_rest = any(self.rest)


def _stage(nodes: Nodes, placeholder: str, end: _End) -> ImageStage:
    """Try what the nodes say; NotAnImageError if the stage computes something else."""
    probe = Probe(nodes, placeholder, end.tensor, end.pixels)
    height, width = probe.size
    rule = Preprocessing(name="in-graph", height=height, width=width, channels=end.order, **end.fields)
    reasons = []
    for candidate in _resizes(rule, end.pixels):
        try:
            probe.compare(candidate, end.rest)
        except OtherPicturesError as error:
            reasons.append(str(error))
        else:
            return ImageStage(end.tensor, _named(candidate), end.rest, probe.batch)
    raise NotAnImageError("; ".join(dict.fromkeys(reasons)) or "no size of the pictures is known")


def _order(channels: Sequence[Channel]) -> str:
    sources = tuple(channel.source for channel in channels)
    known = {(0, 1, 2): "RGB", (2, 1, 0): "BGR", (0,): "L"}
    if sources not in known:
        raise NotAnImageError(f"channels {list(sources)} of the picture must be in the order RGB or BGR")
    return known[sources]


def _arithmetic(channels: Sequence[Channel]) -> tuple[tuple[str, ...], list[list[float]]]:
    """Kinds of the steps, and for each step its numbers by channel."""
    kinds = {tuple(kind for kind, _ in channel.steps) for channel in channels}
    if len(kinds) != 1:
        raise NotAnImageError("all channels must have the same kinds of arithmetic")
    steps = list(zip(*(channel.steps for channel in channels), strict=True))
    return kinds.pop(), [[number for _, number in step] for step in steps]


def _fitted(kinds: Sequence[str], numbers: Sequence[Sequence[float]]) -> tuple[dict[str, Any], int]:
    """Fields of `Preprocessing` that say the first steps, and how many steps that are."""
    fields: dict[str, Any] = {}
    place = 0
    for count, (kind, values) in enumerate(zip(kinds, numbers, strict=True)):
        if set(values) == {0.0 if kind in ("add", "sub") else 1.0}:
            continue
        while place < len(_ORDER) and not _takes(place, kind, values):
            place += 1
        if place == len(_ORDER):
            return fields, count
        shortest = tuple(float(str(np.float32(value))) for value in values)
        fields[_FIELDS[place]] = shortest[0] if _FIELDS[place] in ("divide", "scale") else shortest
        place += 1
    return fields, len(kinds)


def _takes(place: int, kind: str, values: Sequence[float]) -> bool:
    return kind == _ORDER[place] and (_FIELDS[place] in ("mean", "std") or len(set(values)) == 1)


def _resizes(rule: Preprocessing, pixels: Pixels) -> Iterator[Preprocessing]:
    """The ways of resizing that the nodes allow: what the constants of the sizes say."""
    if pixels.resize is None or pixels.resize_nodes is None:
        if pixels.cropped:
            raise NotAnImageError(f"pictures of {pixels.decoder.name} are cropped without being resized")
        yield rule
        return
    size_of = pixels.resize_nodes.inputs(pixels.resize)[1]
    size = pixels.resize_nodes.constant(size_of)
    legacy = replace(rule, resize="legacy_bilinear")
    if size is not None:
        if [int(n) for n in size] != [rule.height, rule.width]:
            raise NotAnImageError(
                f"{pixels.resize.name} resizes to {[int(n) for n in size]} and a crop to "
                f"{[rule.height, rule.width]} follows; only the shorter side may be fixed then"
            )
        yield legacy
        return
    sides = pixels.resize_nodes.constants_of(pixels.resize_nodes.ancestors([size_of]))
    numbers = {float(number) for array in sides for number in np.ravel(array) if np.isreal(number)}
    for side in sorted(number for number in numbers if number == int(number) and number > 1):
        yield replace(legacy, short_side=int(side))


def _named(rule: Preprocessing) -> Preprocessing:
    """Give the rule a name that tells what it is to people."""
    side = f"short side {rule.short_side}, " if rule.short_side else ""
    return replace(rule, name=f"in-graph ({side}{rule.height} x {rule.width} {rule.channels})")
