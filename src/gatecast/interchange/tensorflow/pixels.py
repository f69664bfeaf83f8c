"""What a tensor of an image stage is, read backwards from it to the picture: where each channel comes from,
the arithmetic on it, how it was resized and cropped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .loops import body_of
from .nodes import Nodes

DECODERS = ("DecodePng", "DecodeJpeg", "DecodeImage")

Step = tuple[str, float]
"""``div``, ``sub``, ``mul`` or ``add``, and the number."""


class NotAnImageError(Exception):
    """A tensor does not come from a picture in a way that is understood; says why."""


@dataclass(frozen=True)
class Channel:
    """One channel: which of the decoded picture's it is, and what was done to it since, in order."""

    source: int
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Pixels:
    """A tensor made from one picture.

    Parameters
    ----------
    channels : tuple of Channel
    decoder : NodeDef
        That decodes the picture.
    resize : NodeDef, optional
        That resized it.
    resize_nodes : Nodes, optional
        The table that `resize` is in: the graph's, or that of a loop's body.
    cropped : bool
    looped : bool
        Whether a loop over a vector of pictures made it.
    size : tuple of int or None, optional
        Rows and columns as far as the loop's body says them.
    """

    channels: tuple[Channel, ...]
    decoder: Any
    resize: Any = None
    resize_nodes: Nodes | None = None
    cropped: bool = False
    looped: bool = False
    size: tuple[int | None, ...] | None = None


def read_pixels(nodes: Nodes, tensor: str) -> Pixels:
    """Return what `tensor` is.

    Raises
    ------
    NotAnImageError
        It does not come from one picture by decoding, resizing, cropping and arithmetic by channel.
    """
    node = nodes.node(tensor)
    if (body := body_of(nodes, tensor)) is not None:
        inner, made = body
        shape = inner.tensors.shape(made)
        return replace(read_pixels(inner, made), looped=True, size=shape[:2] if shape else None)
    if node.op in DECODERS:
        return _decoded(node)
    if node.op not in _READERS:
        raise NotAnImageError(f"{node.name} ({node.op}) is no step of an image stage that is known")
    return _READERS[node.op](nodes, node, tensor)


Reader = Callable[[Nodes, Any, str], Pixels]


def _decoded(node: Any) -> Pixels:
    count = node.attr["channels"].i
    if count not in (1, 3):
        raise NotAnImageError(f"{node.name} ({node.op}) must decode to 1 or 3 channels, not {count or 'any'}")
    if node.op == "DecodeJpeg" and node.attr["ratio"].i not in (0, 1):
        raise NotAnImageError(f"{node.name} (DecodeJpeg) must decode whole pictures, not smaller ones")
    return Pixels(tuple(Channel(index) for index in range(count)), decoder=node)


def _handed_on(nodes: Nodes, node: Any, tensor: str) -> Pixels:
    return read_pixels(nodes, nodes.inputs(node)[0])


def _cast(nodes: Nodes, node: Any, tensor: str) -> Pixels:
    pixels = _handed_on(nodes, node, tensor)
    if any(channel.steps for channel in pixels.channels) or pixels.resize is not None:
        raise NotAnImageError(f"{node.name} (Cast) changes the type after arithmetic")
    return pixels


def _resized(nodes: Nodes, node: Any, tensor: str) -> Pixels:
    pixels = _handed_on(nodes, node, tensor)
    if pixels.resize is not None or pixels.cropped or any(c.steps for c in pixels.channels):
        raise NotAnImageError(f"{node.name} ({node.op}) must resize the decoded picture as it is")
    if node.attr["align_corners"].b or node.attr["half_pixel_centers"].b:
        raise NotAnImageError(
            f"{node.name} ({node.op}) must resize as TensorFlow 1 does by default: neither align_corners nor "
            "half_pixel_centers"
        )
    return replace(pixels, resize=node, resize_nodes=nodes)


def _computed(nodes: Nodes, node: Any, tensor: str) -> Pixels:
    """Arithmetic with a constant: one number, or one for each channel."""
    first, second = nodes.inputs(node)
    value, source = nodes.constant(second), first
    kind = {"Sub": "sub", "RealDiv": "div", "Div": "div", "Mul": "mul"}.get(node.op, "add")
    if value is None and kind in ("mul", "add"):
        value, source = nodes.constant(first), second
    if value is None:
        raise NotAnImageError(f"{node.name} ({node.op}) must compute with a constant")
    pixels = read_pixels(nodes, source)
    numbers = _by_channel(value, len(pixels.channels), node)
    if kind == "add" and (numbers < 0).any():  # x + (-y) is x - y, exactly
        kind, numbers = "sub", -numbers
    channels = (
        replace(channel, steps=(*channel.steps, (kind, float(number))))
        for channel, number in zip(pixels.channels, numbers, strict=True)
    )
    return replace(pixels, channels=tuple(channels))


def _by_channel(value: npt.NDArray[Any], count: int, node: Any) -> npt.NDArray[np.float32]:
    if value.size != 1 and (value.size != count or value.shape[-1] != count):
        raise NotAnImageError(
            f"{node.name} ({node.op}) must compute with one number for each of {count} channels, "
            f"not with an array of shape {list(value.shape)}"
        )
    return np.broadcast_to(value.astype(np.float32).reshape(-1), (count,))


def _sliced(nodes: Nodes, node: Any, tensor: str) -> Pixels:
    source, begin, size = nodes.inputs(node)
    pixels = read_pixels(nodes, source)
    sizes = nodes.constant(size)
    if sizes is None:
        return replace(pixels, cropped=True)
    count = int(sizes[-1])
    if count in (-1, len(pixels.channels)):
        return replace(pixels, cropped=True)
    starts = nodes.constant(begin)
    if starts is None or (set(sizes[:-1]) != {-1} and np.any(starts[:-1])):
        raise NotAnImageError(f"{node.name} (Slice) cuts pixels and channels at once")
    return _chosen(pixels, range(int(starts[-1]), int(starts[-1]) + count), node)


def _strided(nodes: Nodes, node: Any, tensor: str) -> Pixels:
    source, *bounds = nodes.inputs(node)
    pixels = read_pixels(nodes, source)
    begin, end, stride = (nodes.constant(bound) for bound in bounds)
    count = _length(nodes, bounds[0])
    last = 1 << (count - 1)
    channels_too = _reaches_channels(nodes, node, source, count)
    whole_axes = node.attr["begin_mask"].i & node.attr["end_mask"].i
    whole_axes |= node.attr["ellipsis_mask"].i | node.attr["new_axis_mask"].i
    others = (1 << count) - 1 & ~(last if channels_too else 0)
    cut = whole_axes & others != others and not _takes_first(node, begin)
    result = replace(pixels, cropped=pixels.cropped or cut)
    if not channels_too or begin is None or end is None or stride is None:
        return result
    if node.attr["shrink_axis_mask"].i & last:
        return _chosen(result, [int(begin[-1])], node)
    low = None if node.attr["begin_mask"].i & last else int(begin[-1])
    high = None if node.attr["end_mask"].i & last else int(end[-1])
    return _chosen(result, range(len(pixels.channels))[low : high : int(stride[-1])], node)


def _reaches_channels(nodes: Nodes, node: Any, source: str, count: int) -> bool:
    """Whether the last of `count` bounds is that of the channels."""
    ellipsis, added = node.attr["ellipsis_mask"].i, node.attr["new_axis_mask"].i
    last = 1 << (count - 1)
    if (ellipsis | added) & last:
        return False
    shape = nodes.tensors.shape(source)
    return bool(ellipsis) or (shape is not None and count - added.bit_count() == len(shape))


def _takes_first(node: Any, begin: npt.NDArray[Any] | None) -> bool:
    """Whether a slice takes the one image of a batch."""
    return begin is not None and node.attr["shrink_axis_mask"].i == 1 and begin.size == 1


def _length(nodes: Nodes, tensor: str) -> int:
    shape = nodes.tensors.shape(tensor)
    if shape is None or len(shape) != 1 or shape[0] is None:
        raise NotAnImageError(f"{tensor} must be bounds of a fixed number")
    return shape[0]


def _joined(nodes: Nodes, node: Any, tensor: str) -> Pixels:
    parts = nodes.inputs(node)
    if node.op == "ConcatV2":
        *parts, axis_of = parts
        axis = nodes.constant(axis_of)
    else:
        axis = np.asarray(node.attr["axis"].i)
    shape = nodes.tensors.shape(tensor)
    if axis is None or shape is None or int(axis) % len(shape) != len(shape) - 1:
        raise NotAnImageError(f"{node.name} ({node.op}) must join channels")
    pixels = [read_pixels(nodes, part) for part in parts]
    bare = [(p.decoder.name, p.resize.name if p.resize else "", p.cropped) for p in pixels]
    if len(set(bare)) != 1:
        raise NotAnImageError(f"{node.name} ({node.op}) must join channels of one picture")
    return replace(pixels[0], channels=tuple(channel for part in pixels for channel in part.channels))


def _parted(nodes: Nodes, node: Any, tensor: str) -> Pixels:
    """Split, SplitV and Unpack along the channels: the output's index is part of the tensor's name."""
    texts = nodes.inputs(node)
    number = int(tensor.partition(":")[2])
    source = texts[1] if node.op == "Split" else texts[0]
    pixels = read_pixels(nodes, source)
    count = len(pixels.channels)
    parts = nodes.tensors.shape(source)
    axis = _axis(nodes, node)
    if axis is None or parts is None or axis % len(parts) != len(parts) - 1:
        raise NotAnImageError(f"{node.name} ({node.op}) must part channels")
    pieces = node.attr["num"].i if node.op == "Unpack" else node.attr["num_split"].i
    if pieces != count:
        raise NotAnImageError(f"{node.name} ({node.op}) must part single channels")
    return _chosen(pixels, [number], node)


def _axis(nodes: Nodes, node: Any) -> int | None:
    if node.op == "Unpack":
        return int(node.attr["axis"].i)
    value = nodes.constant(nodes.inputs(node)[0 if node.op == "Split" else 2])
    return None if value is None else int(value.reshape(-1)[0])


def _reversed(nodes: Nodes, node: Any, tensor: str) -> Pixels:
    source, axes_of = nodes.inputs(node)
    axes, shape = nodes.constant(axes_of), nodes.tensors.shape(source)
    if axes is None or shape is None or [int(axis) % len(shape) for axis in axes] != [len(shape) - 1]:
        raise NotAnImageError(f"{node.name} ({node.op}) must turn the channels round, nothing else")
    pixels = read_pixels(nodes, source)
    return replace(pixels, channels=pixels.channels[::-1])


def _gathered(nodes: Nodes, node: Any, tensor: str) -> Pixels:
    source, indices_of, axis_of = nodes.inputs(node)
    indices, axis, shape = nodes.constant(indices_of), nodes.constant(axis_of), nodes.tensors.shape(source)
    if indices is None or axis is None or shape is None or int(axis) % len(shape) != len(shape) - 1:
        raise NotAnImageError(f"{node.name} ({node.op}) must choose channels")
    return _chosen(read_pixels(nodes, source), [int(index) for index in indices.reshape(-1)], node)


def _chosen(pixels: Pixels, places: Sequence[int], node: Any) -> Pixels:
    if not places or any(not -len(pixels.channels) <= place < len(pixels.channels) for place in places):
        raise NotAnImageError(f"{node.name} ({node.op}) chooses channels that are not there")
    return replace(pixels, channels=tuple(pixels.channels[place] for place in places))


_READERS: dict[str, Reader] = {
    **dict.fromkeys(("Identity", "ExpandDims", "Squeeze", "Reshape", "StopGradient"), _handed_on),
    **dict.fromkeys(("PreventGradient", "EnsureShape", "CheckNumerics", "Snapshot"), _handed_on),
    **dict.fromkeys(("Sub", "RealDiv", "Div", "Mul", "Add", "AddV2", "BiasAdd"), _computed),
    **dict.fromkeys(("ConcatV2", "Pack"), _joined),
    **dict.fromkeys(("Split", "SplitV", "Unpack"), _parted),
    "Cast": _cast,
    "ResizeBilinear": _resized,
    "Slice": _sliced,
    "StridedSlice": _strided,
    "ReverseV2": _reversed,
    "GatherV2": _gathered,
}
