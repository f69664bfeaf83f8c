"""Operators that move values without changing them."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from onnx import TensorProto

from gatecast.graph import Concat, Flatten, Reshape, Slice, Transpose

from ..network import Network, NotSupportedError, natural
from ..node import Node, operator
from ..values import AnyConstant, ChannelNorm, Constant, Repeated, Value, View
from .arithmetic import together
from .repeats import merged, transposed


@operator("Identity", "Dropout", "Cast", "CastLike")
def identity(node: Node, network: Network) -> Value:
    """Nothing at inference; casts must be to float32."""
    kind = node.proto.op_type
    if kind == "Cast" and node.attribute("to") != TensorProto.FLOAT:
        raise NotSupportedError(f"casts to {TensorProto.DataType.Name(node.attribute('to'))}, not to float32")
    if kind == "Dropout" and len(node.proto.output) > 1 and node.proto.output[1]:
        raise NotSupportedError("makes a mask")
    if kind == "Dropout" and node.input(2) is not None and node.constant(2).array.any():
        raise NotSupportedError("is in training mode; export the network for inference")
    value = node.input(0)
    if value is None:
        raise NotSupportedError("reads nothing")
    return value


@operator("Shape")
def shape(node: Node, network: Network) -> Value:
    """Known when the file is read."""
    dims = network.dims(network.view(node.input(0)))
    start, end = node.attribute("start", 0), node.attribute("end", len(dims))
    return Constant(node.name, np.array(dims[start:end], np.int64))


@operator("Size")
def size(node: Node, network: Network) -> Value:
    """Known when the file is read."""
    return Constant(node.name, np.array(np.prod(network.dims(network.view(node.input(0)))), np.int64))


@operator("Transpose")
def transpose(node: Node, network: Network) -> Value:
    """Another order of axes, kept as a view."""
    value = node.input(0)
    if isinstance(value, Repeated):
        return transposed(value, node.ints("perm") or list(reversed(range(len(value.source.axes)))))
    view = network.view(value)
    order = node.ints("perm") or list(reversed(range(len(view.axes))))
    if node.mark:
        return _transpose_layer(node, network, view, order)
    return View(view.value, tuple(view.axes[axis] for axis in order))


def _transpose_layer(node: Node, network: Network, view: View, order: Sequence[int]) -> Value:
    usual = natural(len(order) - 1)
    inner = tuple(usual.index(order[axis]) for axis in usual)
    source = network.arranged(view, usual)
    return network.add(Transpose(name=network.unique(node.name), inputs=(source.value,), order=inner))


@operator("Flatten")
def flatten(node: Node, network: Network) -> Value:
    """All axes from `axis` on in one."""
    view = network.view(node.input(0))
    dims = network.dims(view)
    axis = int(node.attribute("axis", 1))
    axis = axis + len(dims) if axis < 0 else axis
    if node.mark:
        order: Literal["chw", "hwc"] = "hwc" if node.mark.endswith("hwc") else "chw"
        return network.add(Flatten(name=network.unique(node.name), inputs=(view.value,), order=order))
    return network.reshaped(view, [int(np.prod(dims[:axis])), int(np.prod(dims[axis:]))], node.name)


@operator("Reshape")
def reshape(node: Node, network: Network) -> Value:
    """Another shape with the same values in the same order."""
    value = node.input(0)
    wanted = node.ints("shape", 1)
    if wanted is None:
        raise NotSupportedError("has no shape")
    if isinstance(value, Repeated):
        dims = [*network.dims(value.source)]
        dims[value.axis] = value.count
        return merged(node, network, value, _resolved(dims, wanted, bool(node.attribute("allowzero", 0))))
    view = network.view(value)
    dims = [*network.dims(view)]
    target = _resolved(dims, wanted, bool(node.attribute("allowzero", 0)))
    if node.mark:
        source = network.arranged(view, range(1, len(dims)))
        layer = Reshape(name=network.unique(node.name), inputs=(source.value,), shape=tuple(target[1:]))
        return network.add(layer, range(1, len(target)))
    return network.reshaped(view, target, node.name)


def _resolved(dims: Sequence[int], wanted: Sequence[int], zero_is_zero: bool) -> list[int]:
    """Replace 0 by the dimension that was there, and -1 by what is left."""
    target = [
        dims[place] if size == 0 and not zero_is_zero and place < len(dims) else size
        for place, size in enumerate(wanted)
    ]
    if -1 in target:
        rest = int(np.prod([size for size in target if size != -1]))
        target[target.index(-1)] = int(np.prod(dims)) // rest if rest else 0
    if min(target, default=1) < 1:
        raise NotSupportedError(f"reshapes {list(dims)} to {list(wanted)}")
    return target


@operator("Squeeze")
def squeeze(node: Node, network: Network) -> Value:
    """Axes of size 1 taken out."""
    view = network.view(node.input(0))
    dims = network.dims(view)
    axes = node.ints("axes", 1)
    gone = {a % len(dims) for a in axes} if axes else {a for a, n in enumerate(dims) if n == 1 and a > 0}
    if any(dims[axis] != 1 for axis in gone) or 0 in gone:
        raise NotSupportedError(f"squeezes axes {sorted(gone)} of {list(dims)}")
    return View(view.value, tuple(group for axis, group in enumerate(view.axes) if axis not in gone))


@operator("Unsqueeze")
def unsqueeze(node: Node, network: Network) -> Value:
    """Axes of size 1 put in."""
    view = network.view(node.input(0))
    axes = node.ints("axes", 1) or []
    rank = len(view.axes) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(view.axes)
    return View(view.value, tuple(() if axis in new else next(rest) for axis in range(rank)))


@operator("Expand")
def expand(node: Node, network: Network) -> Value:
    """Known where it changes nothing, and on a norm that the division broadcasts anyway."""
    value = node.input(0)
    if isinstance(value, ChannelNorm):
        return value
    view = network.view(value)
    dims = network.dims(view)
    target = node.ints("", 1) or []
    if np.broadcast_shapes(dims, tuple(target)) != dims:
        raise NotSupportedError(f"repeats values, {list(dims)} to {target}")
    return view


@operator("Concat")
def concat(node: Node, network: Network) -> Value:
    """Values joined along any axis but the batch."""
    if any(isinstance(value, AnyConstant) for value in node.inputs):
        raise NotSupportedError("joins a constant with computed values")
    views, order = together(network, [network.view(value) for value in node.inputs])
    if len(views) == 1:
        return views[0]
    axis = int(node.attribute("axis", 1)) % len(views[0].axes)
    if axis == 0:
        raise NotSupportedError("joins along the batch")
    inner = order.index(axis)
    names = tuple(view.value for view in views)
    where = -1 if inner == len(order) - 1 else inner
    return network.add(Concat(name=network.unique(node.name), inputs=names, axis=where), order)


@operator("Slice")
def slice_(node: Node, network: Network) -> Value:
    """Parts of axes, forwards."""
    view, order = network.arrange(network.view(node.input(0)))
    dims = network.dims(view)
    starts, ends = node.ints("starts", 1) or [], node.ints("ends", 2) or []
    axes = node.ints("axes", 3) or list(range(len(starts)))
    steps = node.ints("steps", 4) or [1] * len(starts)
    ranges = {axis: (0, size, 1) for axis, size in enumerate(dims)}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise NotSupportedError(f"steps must be positive, not {step}")
        axis %= len(dims)
        ranges[axis] = (*slice(start, end, step).indices(dims[axis])[:2], step)
    if ranges[0] != (0, dims[0], 1):
        raise NotSupportedError("takes a part of the batch")
    if not node.mark and all(ranges[axis] == (0, size, 1) for axis, size in enumerate(dims)):
        return view
    return _slice(node.name, network, view, order, [ranges[axis] for axis in order])


def _slice(
    name: str, network: Network, view: View, order: Sequence[int], ranges: Sequence[tuple[int, int, int]]
) -> View:
    starts, stops, steps = (tuple(part) for part in zip(*ranges, strict=True))
    layer = Slice(name=network.unique(name), inputs=(view.value,), starts=starts, stops=stops, steps=steps)
    return network.add(layer, order)


@operator("Split")
def split(node: Node, network: Network) -> Sequence[Value]:
    """One slice for each output that is used."""
    view, order = network.arrange(network.view(node.input(0)))
    dims = network.dims(view)
    axis = int(node.attribute("axis", 0)) % len(dims)
    if axis == 0:
        raise NotSupportedError("parts the batch")
    outputs = list(node.proto.output)
    each = -(-dims[axis] // len(outputs))
    sizes = node.ints("split", 1) or [min(each, dims[axis] - each * i) for i in range(len(outputs))]
    parts, start = [], 0
    for name, part in zip(outputs, sizes, strict=True):
        ranges = [(start, start + part, 1) if a == axis else (0, dims[a], 1) for a in order]
        parts.append(_slice(name, network, view, order, ranges))
        start += part
    return parts
