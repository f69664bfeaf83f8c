"""Pixels repeated by Tile along an axis of their own, as Keras writes nearest upsampling."""

from collections.abc import Sequence

from gatecast.graph import Resize

from ..network import Network, NotSupportedError
from ..node import Node, operator
from ..values import Repeated, Value, View


@operator("Tile")
def tile(node: Node, network: Network) -> Value:
    """Repeats along one axis of size 1, which a Reshape then merges with the rows or columns before it."""
    view = network.view(node.input(0))
    dims = network.dims(view)
    repeats = node.ints("repeats", 1) or []
    axes = [axis for axis, count in enumerate(repeats) if count != 1]
    if len(repeats) != len(dims) or len(axes) > 1:
        raise NotSupportedError(f"repeats {list(dims)} by {repeats}; one axis at a time is known")
    if not axes:
        return view
    if dims[axes[0]] != 1 or axes[0] == 0:
        raise NotSupportedError("repeats something else than pixels")
    return Repeated(view, axes[0], repeats[axes[0]])


def transposed(value: Repeated, order: Sequence[int]) -> Repeated:
    """Return the tensor with its axes in another order."""
    view = View(value.source.value, tuple(value.source.axes[axis] for axis in order))
    return Repeated(view, list(order).index(value.axis), value.count)


def merged(node: Node, network: Network, value: Repeated, target: Sequence[int]) -> Value:
    """Return the tensor reshaped to `target`: each pixel repeated if the repeats follow rows or columns."""
    at = value.axis - 1
    axes = value.source.axes
    view = View(value.source.value, axes[: value.axis] + axes[value.axis + 1 :])
    dims = list(network.dims(view))
    dims[at] *= value.count
    if dims != list(target):
        raise NotSupportedError("repeats something else than pixels")
    view, order = network.arrange(view)
    inner = order.index(at) if at in order else -1
    if inner not in (0, 1) or len(order) != 3:
        raise NotSupportedError("repeats something else than pixels")
    rows, columns, _ = network.shapes[view.value]
    size = (rows * value.count, columns) if inner == 0 else (rows, columns * value.count)
    layer = Resize(name=network.unique(node.name), inputs=(view.value,), size=size)
    return network.add(layer, order)
