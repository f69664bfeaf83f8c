"""Shape inference: one function for each layer, from inner shapes (one image) to the inner shape it makes."""

import math
from collections.abc import Sequence
from functools import singledispatch

from gatecast.errors import GraphError
from gatecast.numerics import BLOCK_SIZE

from . import layers as op

Shape = tuple[int, ...]


@singledispatch
def infer_shape(layer: op.Layer, shapes: Sequence[Shape]) -> Shape:
    """Return the shape of the value that `layer` makes.

    Raises
    ------
    GraphError
        The layer does not fit these shapes; layer and shapes are named.
    """
    raise GraphError(f"Layer {layer.name} must be of a known kind, not {type(layer).__name__}")


def _only(layer: op.Layer, shapes: Sequence[Shape], rank: int | None = None) -> Shape:
    if len(shapes) != 1:
        raise GraphError(f"Layer {layer.name} must read one value, not {len(shapes)}")
    if rank is not None and len(shapes[0]) != rank:
        kind = {1: "a vector", 3: "a map of rows, columns and channels"}[rank]
        raise GraphError(f"Layer {layer.name} must read {kind}, not a value of shape {shapes[0]}")
    return shapes[0]


def _positive(layer: op.Layer, shape: Shape) -> Shape:
    if min(shape, default=1) < 1:
        raise GraphError(f"Layer {layer.name} must make a value of positive size, not {shape}")
    return shape


def _check_vector(layer: op.Layer, field: str, size: int, expected: int) -> None:
    if size != expected:
        raise GraphError(f"{field} of {layer.name} must have {expected} values, not {size}")


@infer_shape.register
def _convolution(layer: op.Convolution, shapes: Sequence[Shape]) -> Shape:
    rows, columns, channels = _only(layer, shapes, 3)
    outputs, _, _, per_group = layer.weights.shape
    if layer.groups < 1 or channels != per_group * layer.groups or outputs % layer.groups:
        raise GraphError(
            f"Layer {layer.name} must have weights for {channels} input channels in {layer.groups} groups, "
            f"not {outputs} outputs of {per_group} channels a group"
        )
    if isinstance(layer.weights, op.BlockWeights):
        _check_pieces(layer, layer.weights, op.pieces_of(per_group, layer.groups))
    if layer.bias is not None:
        _check_vector(layer, "Bias", layer.bias.size, outputs)
    return _positive(layer, (*layer.window.output_size((rows, columns), layer.kernel), outputs))


def _check_pieces(layer: op.Layer, weights: op.BlockWeights, pieces: int) -> None:
    if weights.exponents.shape[3] != pieces:
        raise GraphError(
            f"Weights of {layer.name} must have {pieces} blocks a tap, not {weights.exponents.shape[3]}"
        )


@infer_shape.register
def _matmul(layer: op.MatMul, shapes: Sequence[Shape]) -> Shape:
    shape = _only(layer, shapes)
    outputs, *window = layer.weights.shape
    expected = (1, 1, *shape) if len(shape) == 1 else shape
    if tuple(window) != expected:
        raise GraphError(
            f"Weights of {layer.name} must be {('outputs', *expected)}, not {layer.weights.shape}"
        )
    if isinstance(layer.weights, op.BlockWeights):
        _check_pieces(layer, layer.weights, -(-window[2] // BLOCK_SIZE))
    if layer.bias is not None:
        _check_vector(layer, "Bias", layer.bias.size, outputs)
    return (outputs,)


@infer_shape.register
def _batch_norm(layer: op.BatchNorm, shapes: Sequence[Shape]) -> Shape:
    shape = _only(layer, shapes)
    for field in ("gamma", "beta", "mean", "variance"):
        _check_vector(layer, field.capitalize(), getattr(layer, field).size, shape[-1])
    return shape


@infer_shape.register
def _affine(layer: op.Affine, shapes: Sequence[Shape]) -> Shape:
    shape = _only(layer, shapes)
    _check_vector(layer, "Scale", layer.scale.size, shape[-1])
    _check_vector(layer, "Shift", layer.shift.size, shape[-1])
    return shape


@infer_shape.register(op.Activation)
@infer_shape.register(op.Encode)
@infer_shape.register(op.Softmax)
@infer_shape.register(op.L2Norm)
def _same(layer: op.Layer, shapes: Sequence[Shape]) -> Shape:
    return _only(layer, shapes)


def pooled_size(size: int, kernel: int, stride: int, pads: tuple[int, int], ceil: bool) -> int:
    """Windows along one axis; with `ceil` a last one may start inside the map or its leading padding."""
    room = size + sum(pads) - kernel
    count = -(-room // stride) + 1 if ceil else room // stride + 1
    if ceil and (count - 1) * stride >= size + pads[0]:
        count -= 1
    return count


@infer_shape.register(op.MaxPool)
@infer_shape.register(op.AveragePool)
def _pool(layer: op.MaxPool | op.AveragePool, shapes: Sequence[Shape]) -> Shape:
    rows, columns, channels = _only(layer, shapes, 3)
    dilation = layer.dilation if isinstance(layer, op.MaxPool) else (1, 1)
    top, left, bottom, right = layer.pads
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel, dilation, strict=True)]
    size = (
        pooled_size(rows, spans[0], layer.stride[0], (top, bottom), layer.ceil),
        pooled_size(columns, spans[1], layer.stride[1], (left, right), layer.ceil),
    )
    if max(top, bottom) >= spans[0] or max(left, right) >= spans[1]:
        raise GraphError(
            f"Padding of {layer.name} must be smaller than its kernel {layer.kernel}, not {layer.pads}"
        )
    return _positive(layer, (*size, channels))


@infer_shape.register
def _global_average_pool(layer: op.GlobalAveragePool, shapes: Sequence[Shape]) -> Shape:
    return (1, 1, _only(layer, shapes, 3)[2])


@infer_shape.register
def _elementwise(layer: op.Elementwise, shapes: Sequence[Shape]) -> Shape:
    if len(shapes) < 2:
        raise GraphError(f"Layer {layer.name} must read at least two values, not {len(shapes)}")
    whole = max(shapes, key=math.prod)
    for shape in shapes:
        if shape != whole and not (len(whole) == 3 and shape == (1, 1, whole[2])):
            raise GraphError(
                f"Layer {layer.name} must read values of one shape or (1, 1, C), not {list(shapes)}"
            )
    return whole


@infer_shape.register
def _concat(layer: op.Concat, shapes: Sequence[Shape]) -> Shape:
    axis = layer.axis % len(shapes[0])
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rest) != 1:
        raise GraphError(
            f"Layer {layer.name} must join values that differ only along axis {axis}, not {list(shapes)}"
        )
    first = shapes[0]
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


@infer_shape.register
def _flatten(layer: op.Flatten, shapes: Sequence[Shape]) -> Shape:
    return (math.prod(_only(layer, shapes)),)


@infer_shape.register
def _reshape(layer: op.Reshape, shapes: Sequence[Shape]) -> Shape:
    shape = _only(layer, shapes)
    if math.prod(shape) != math.prod(layer.shape):
        raise GraphError(
            f"Layer {layer.name} must keep {math.prod(shape)} values, not reshape {shape} to {layer.shape}"
        )
    return layer.shape


@infer_shape.register
def _transpose(layer: op.Transpose, shapes: Sequence[Shape]) -> Shape:
    shape = _only(layer, shapes)
    if sorted(layer.order) != list(range(len(shape))):
        raise GraphError(f"Layer {layer.name} must name each axis of {shape} once, not {layer.order}")
    return tuple(shape[axis] for axis in layer.order)


@infer_shape.register
def _pad(layer: op.Pad, shapes: Sequence[Shape]) -> Shape:
    rows, columns, channels = _only(layer, shapes, 3)
    top, left, bottom, right = layer.pads
    return _positive(layer, (rows + top + bottom, columns + left + right, channels))


@infer_shape.register
def _slice(layer: op.Slice, shapes: Sequence[Shape]) -> Shape:
    shape = _only(layer, shapes)
    if not len(shape) == len(layer.starts) == len(layer.stops) == len(layer.steps):
        raise GraphError(f"Layer {layer.name} must slice each axis of {shape}, not {layer.starts}")
    ranges = zip(layer.starts, layer.stops, layer.steps, shape, strict=True)
    return _positive(
        layer, tuple(len(range(start, min(stop, size), step)) for start, stop, step, size in ranges)
    )


@infer_shape.register
def _resize(layer: op.Resize, shapes: Sequence[Shape]) -> Shape:
    rows, columns, channels = _only(layer, shapes, 3)
    if layer.mode == "nearest" and (layer.size[0] % rows or layer.size[1] % columns):
        raise GraphError(
            f"Layer {layer.name} must repeat pixels by whole factors, not {(rows, columns)} to {layer.size}"
        )
    return _positive(layer, (*layer.size, channels))
