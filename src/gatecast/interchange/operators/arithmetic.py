"""Addition, multiplication and their like, with another value or with constants."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gatecast.graph import Affine, Elementwise, ElementwiseKind, L2Norm

from ..network import Network, NotSupportedError
from ..node import Float32, Node, finite, operator
from ..values import AnyConstant, ChannelNorm, SpaceSum, Value, View
from .pools import mean_factor


@operator("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum")
def arithmetic(node: Node, network: Network) -> Value:
    """One of two or more values, or of a value and constants for each channel."""
    kind = node.proto.op_type
    values = [_settled(value, network) for value in node.inputs if value is not None]
    if any(isinstance(value, ChannelNorm) for value in values):
        return _with_norm(node, network, kind, values)
    constants = [value for value in values if isinstance(value, AnyConstant)]
    if not constants:
        return _elementwise(node, network, kind, values)
    if len(values) != 2:
        raise NotSupportedError("mixes constants with more than one value")
    first = isinstance(values[0], AnyConstant)
    return _with_constant(node, network, values[1] if first else values[0], constants[0], first)


def _settled(value: Value, network: Network) -> Value:
    """Return squares that nothing sums as the value that they are."""
    squares = isinstance(value, ChannelNorm) and value.power == 0
    return network.view(value) if squares else value


_KINDS: dict[str, ElementwiseKind] = {
    "Add": "add",
    "Sum": "add",
    "Sub": "subtract",
    "Mul": "multiply",
    "Max": "maximum",
    "Min": "minimum",
}


def _elementwise(node: Node, network: Network, kind: str, values: Sequence[Value]) -> Value:
    views = [network.view(value) for value in values]
    if len(views) == 1:
        return views[0]
    if kind == "Mul" and len(views) == 2 and views[0] == views[1] and not node.mark:
        return ChannelNorm(views[0], power=0.0, name=node.name)
    if kind not in _KINDS:
        raise NotSupportedError("divides one value by another")
    views, order = together(network, views)
    names = tuple(view.value for view in views)
    shapes = [network.shapes[name] for name in names]
    whole = max(shapes, key=math.prod)
    if any(shape != whole and shape != (1, 1, whole[-1]) for shape in shapes):
        raise NotSupportedError(f"broadcasts {shapes}; one pixel over a map is known")
    layer = Elementwise(name=network.unique(node.name), inputs=names, kind=_KINDS[kind])
    return network.add(layer, order)


def together(network: Network, views: Sequence[View]) -> tuple[list[View], tuple[int, ...]]:
    """Bring values into one order of axes, that of the largest."""
    if len({len(view.axes) for view in views}) != 1:
        raise NotSupportedError(f"reads tensors of {', '.join(str(len(v.axes)) for v in views)} axes")
    largest = max(views, key=lambda view: np.prod(network.dims(view), dtype=object))
    _, order = network.arrange(largest)
    return [network.arranged(view, order) for view in views], order


def _with_constant(
    node: Node, network: Network, value: Value, constant: AnyConstant, constant_first: bool
) -> Value:
    kind = node.proto.op_type
    array = finite(constant)
    if isinstance(value, SpaceSum) and kind in ("Mul", "Div") and array.size == 1 and not constant_first:
        factor = float(array.item()) if kind == "Mul" else 1 / float(array.item())
        return network.space_mean(value, node.name, mean_factor(network, value, factor))
    view = network.view(value)
    if kind in ("Max", "Min"):
        raise NotSupportedError("compares with a constant; Clip is known")
    scale, shift = _scale_and_shift(kind, array, constant_first)
    view, scale, shift = _per_channel(network, view, scale, shift)
    return network.chain(view, Affine, node.name, scale=scale, shift=shift)


def _scale_and_shift(kind: str, array: Float32, constant_first: bool) -> tuple[Float32, Float32]:
    """Return what multiplies and what is added, of the constant's shape."""
    one, zero = np.ones_like(array), np.zeros_like(array)
    if kind in ("Add", "Sum"):
        return one, array
    if kind == "Sub":
        return (-one, array) if constant_first else (one, -array + np.float32(0))
    if kind == "Mul":
        return array, zero
    if constant_first:
        raise NotSupportedError("divides a constant by a value")
    if not array.all():
        raise NotSupportedError("divides by zero")
    with np.errstate(over="ignore"):
        return (1 / array.astype(np.float64)).astype(np.float32), zero


def _per_channel(
    network: Network, view: View, scale: Float32, shift: Float32
) -> tuple[View, Float32, Float32]:
    """Bring constants to one number for each channel, and the value to where its channels are."""
    found = _channels(network, view, scale)
    if found is None:
        view, _ = network.arrange(view)
        found = _channels(network, view, scale)
    if found is None:
        raise NotSupportedError(
            f"has a constant of shape {list(scale.shape)} for a tensor of shape {list(network.dims(view))}; "
            "one number, or one for each channel, is known"
        )
    return view, _spread(scale, found), _spread(shift, found)


def _channels(network: Network, view: View, array: Float32) -> int | None:
    """Return the number of channels, None if `array` is not one number, or one for each of them."""
    dims, shape = network.dims(view), network.shapes[view.value]
    last = len(shape) - 1
    if array.ndim > len(dims):
        return None
    varying = [axis - array.ndim + len(dims) for axis, size in enumerate(array.shape) if size > 1]
    if not varying or (len(varying) == 1 and view.axes[varying[0]] == (last,)):
        return shape[last]
    return None


def _spread(array: npt.NDArray[np.float32], size: int) -> Float32:
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (size,)))


def _with_norm(node: Node, network: Network, kind: str, values: Sequence[Value]) -> Value:
    """One step of an L2 normalisation: a floor under the norm, or the division by it."""
    if len(values) != 2:
        raise NotSupportedError("uses a norm in another way than to divide by it")
    left, right = values
    if kind == "Min" and isinstance(left, ChannelNorm) and isinstance(right, AnyConstant):
        return _lowered(left, float(finite(right).max()))
    if kind in ("Max", "Add") and isinstance(left, ChannelNorm) and isinstance(right, AnyConstant):
        if kind == "Add":
            raise NotSupportedError("adds to a norm; a floor under it (Max, Clip) is known")
        return raised(left, float(finite(right).max()))
    if kind == "Mul" and isinstance(left, ChannelNorm):
        left, right = right, left
    power = {"Div": 0.5, "Mul": -0.5}.get(kind)
    if isinstance(right, ChannelNorm) and right.power == power and network.view(left) == right.source:
        layer = L2Norm(name=network.unique(node.name), inputs=(right.source.value,), epsilon=right.epsilon)
        return View(network.add(layer).value, right.source.axes)
    raise NotSupportedError("uses a norm in another way than to divide by it")


def raised(norm: ChannelNorm, floor: float) -> ChannelNorm:
    """Return a norm that is at least `floor`."""
    if norm.power not in (1.0, 0.5):
        raise NotSupportedError("limits something else than a norm")
    epsilon = float(np.float32(floor if norm.power == 1.0 else floor * floor))
    return ChannelNorm(norm.source, norm.power, max(norm.epsilon, epsilon))


def _lowered(norm: ChannelNorm, limit: float) -> ChannelNorm:
    """Return the reciprocal of a norm that is at most `limit`: the norm is at least its reciprocal."""
    if norm.power >= 0 or limit <= 0:
        raise NotSupportedError("limits a norm from above")
    epsilon = float(np.float32(limit ** (1 / norm.power)))
    return ChannelNorm(norm.source, norm.power, max(norm.epsilon, epsilon))


@operator("Neg")
def negate(node: Node, network: Network) -> Value:
    """Times -1."""
    view = network.view(node.input(0))
    channels = network.shapes[view.value][-1]
    return network.chain(
        view,
        Affine,
        node.name,
        scale=np.full(channels, -1, np.float32),
        shift=np.zeros(channels, np.float32),
    )


@operator("Pow")
def power(node: Node, network: Network) -> Value:
    """The square, as L2 normalisations take it."""
    exponent = node.number("", 1)
    value = node.input(0)
    if isinstance(value, ChannelNorm) and exponent in (0.5, -0.5):
        return ChannelNorm(value.source, value.power * exponent, value.epsilon)
    if exponent != 2.0:
        raise NotSupportedError(f"exponent must be 2, not {exponent}")
    return ChannelNorm(network.view(value), power=0.0, name=node.name)


@operator("Sqrt", "Reciprocal")
def root(node: Node, network: Network) -> Value:
    """A step of an L2 normalisation."""
    norm = node.input(0)
    if not isinstance(norm, ChannelNorm) or norm.power == 0:
        raise NotSupportedError("is known only inside an L2 normalisation")
    factor = 0.5 if node.proto.op_type == "Sqrt" else -1.0
    return ChannelNorm(norm.source, norm.power * factor, norm.epsilon)


@operator("LpNormalization")
def lp_normalization(node: Node, network: Network) -> Value:
    """Division by the Euclidean norm over the channels."""
    if node.attribute("p", 2) != 2:
        raise NotSupportedError("p must be 2")
    view = network.view(node.input(0))
    last = len(network.shapes[view.value]) - 1
    if view.axes[node.attribute("axis", -1)] != (last,):
        raise NotSupportedError("normalises along another axis than the channels")
    smallest = float(np.finfo(np.float32).tiny)  # so that zeros stay zeros
    return network.chain(view, L2Norm, node.name, epsilon=smallest)
