"""The evaluator that defines every layer, in float32 and exactly as the arithmetic contract says.

Written to be read: one function for each layer. A layer whose weights are in blocks sums in the
contract's order; an `Encode` rounds to blocks and hands on the decoded values. Both are exact, so values
are plain float32 arrays throughout. A zero that a layer makes is +0.0.

Ref: docs/spec/numerics.md §§2-4.
"""

from collections.abc import Callable, Mapping
from functools import reduce, singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import GraphError, RequestError
from gatecast.numerics import (
    average_factor,
    bounded,
    clip,
    convolve,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    relu,
    round_to_format,
    split_blocks,
)

from . import layers as op
from .graph import Graph
from .shapes import infer_shape

Float32 = npt.NDArray[np.float32]


def evaluate(graph: Graph, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, Float32]:
    """Run one image through `graph` and return its outputs.

    Parameters
    ----------
    inputs : mapping of input name to float32 array of the input's inner shape

    Raises
    ------
    RequestError
        An input is missing, unknown, of another shape, or for a quantised graph not finite or beyond 2**64.
    GraphError
        A layer with weights in blocks reads a value that is not encoded.
    """
    values = evaluate_values(graph, inputs)
    return {name: values[name] for name in graph.outputs}


def evaluate_values(
    graph: Graph,
    inputs: Mapping[str, npt.NDArray[Any]],
    watch: Callable[[op.Layer, Float32], None] | None = None,
) -> dict[str, Float32]:
    """Run one image and return every value by name; `watch` sees each layer with its result.

    Parameters and errors are those of `evaluate`.
    """
    values = _checked_inputs(graph, inputs)
    for layer in graph.layers:
        _check_encoded(graph, layer)
        result = compute(layer, *(values[name] for name in layer.inputs))
        values[layer.name] = np.ascontiguousarray(result, np.float32) + np.float32(0)
        if watch is not None:
            watch(layer, values[layer.name])
    return values


def _checked_inputs(graph: Graph, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, Float32]:
    expected = {value.name: value.shape for value in graph.inputs}
    if set(inputs) != set(expected):
        raise RequestError(
            f"Inputs of {graph.name} must be {', '.join(expected)}, not {', '.join(inputs) or 'none'}"
        )
    checked = {}
    for name, shape in expected.items():
        x = np.asarray(inputs[name], np.float32)
        if x.shape != shape:
            raise RequestError(f"Input {name} of {graph.name} must have shape {shape}, not {x.shape}")
        checked[name] = bounded(x, f"input {name}") if graph.is_quantized else x
    return checked


def _check_encoded(graph: Graph, layer: op.Layer) -> None:
    if not isinstance(layer, op.Convolution | op.MatMul) or not isinstance(layer.weights, op.BlockWeights):
        return
    source = layer.inputs[0]
    if not isinstance(graph.by_name.get(source), op.Encode):
        raise GraphError(f"Layer {layer.name} must read an encoded value, not {source}")


@singledispatch
def compute(layer: op.Layer, *inputs: Float32) -> Float32:
    """Return the value that `layer` makes from the values it reads, up to the sign of zeros."""
    raise GraphError(f"Layer {layer.name} must be of a known kind, not {type(layer).__name__}")


@compute.register
def _encode(layer: op.Encode, x: Float32) -> Float32:
    return round_to_format(x, layer.format)


@compute.register
def _convolution(layer: op.Convolution, x: Float32) -> Float32:
    if isinstance(layer.weights, op.BlockWeights):
        sums = convolve(split_blocks(x), layer.weights.decode(), layer.window, layer.first_blocks)
    else:
        sums = _float_convolution(x, layer)
    return sums if layer.bias is None else sums + layer.bias


def _float_convolution(x: Float32, layer: op.Convolution) -> Float32:
    """Taps in ascending order; the order within a tap is not defined."""
    weights = np.asarray(layer.weights)
    top, left, bottom, right = layer.pads
    rows, columns, _ = infer_shape(layer, [x.shape])
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    kernel = weights.reshape(layer.groups, -1, *weights.shape[1:]).transpose(2, 3, 0, 4, 1)
    sums = np.zeros((layer.groups, rows * columns, kernel.shape[-1]), np.float32)
    for ky, kx in np.ndindex(layer.kernel):
        taps = tap(x, (ky, kx), layer.stride, layer.dilation, (rows, columns))
        sums += taps.reshape(rows * columns, layer.groups, -1).transpose(1, 0, 2) @ kernel[ky, kx]
    return sums.transpose(1, 0, 2).reshape(rows, columns, -1)


def tap(
    x: npt.NDArray[Any], position: op.Pair, stride: op.Pair, dilation: op.Pair, size: op.Pair
) -> npt.NDArray[Any]:
    """For each window, the value under one position of the kernel: a view of `x` (rows, columns, …)."""
    ranges = []
    for at, step, spread, count in zip(position, stride, dilation, size, strict=True):
        start = at * spread
        ranges.append(slice(start, start + (count - 1) * step + 1, step))
    return x[tuple(ranges)]


@compute.register
def _matmul(layer: op.MatMul, x: Float32) -> Float32:
    x = x.reshape(1, 1, -1) if x.ndim == 1 else x
    if isinstance(layer.weights, op.BlockWeights):
        sums = convolve(split_blocks(x), layer.weights.decode()).reshape(-1)
    else:
        sums = layer.weights.reshape(layer.weights.shape[0], -1) @ x.reshape(-1)
    return sums if layer.bias is None else sums + layer.bias


@compute.register
def _batch_norm(layer: op.BatchNorm, x: Float32) -> Float32:
    deviation = np.sqrt(layer.variance + np.float32(layer.epsilon))
    result: Float32 = (x - layer.mean) / deviation * layer.gamma + layer.beta
    return result


@compute.register
def _affine(layer: op.Affine, x: Float32) -> Float32:
    return x * layer.scale + layer.shift


@compute.register
def _activation(layer: op.Activation, x: Float32) -> Float32:
    match layer.kind:
        case "relu":
            return relu(x)
        case "clip":
            return clip(x, layer.low, layer.high)
        case "leaky_relu":
            return leaky_relu(x, layer.low)
        case "hard_sigmoid":
            return hard_sigmoid(x, layer.low, layer.high)
        case "hard_swish":
            return hard_swish(x, layer.low, layer.high)
        case "sigmoid":
            return _sigmoid(x)
        case "silu":
            return x * _sigmoid(x)


def _sigmoid(x: Float32) -> Float32:
    small = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


@compute.register
def _max_pool(layer: op.MaxPool, x: Float32) -> Float32:
    rows, columns, channels = infer_shape(layer, [x.shape])
    x = _surrounded(x, layer, (rows, columns), layer.dilation, -np.inf)
    largest = np.full((rows, columns, channels), -np.inf, np.float32)
    for position in np.ndindex(layer.kernel):
        np.maximum(largest, tap(x, position, layer.stride, layer.dilation, (rows, columns)), out=largest)
    return largest


@compute.register
def _average_pool(layer: op.AveragePool, x: Float32) -> Float32:
    rows, columns, channels = infer_shape(layer, [x.shape])
    padded = _surrounded(x, layer, (rows, columns), (1, 1), 0.0)
    counts = window_counts(layer, x.shape[:2], (rows, columns))
    sums = np.zeros((rows, columns, channels), np.float32)
    for position in np.ndindex(layer.kernel):
        sums += tap(padded, position, layer.stride, (1, 1), (rows, columns))
    factors = np.array([[average_factor(int(n)) for n in row] for row in counts], np.float32)
    return sums * factors[..., None]


def _surrounded(
    x: Float32, pool: op.MaxPool | op.AveragePool, size: op.Pair, dilation: op.Pair, value: float
) -> Float32:
    """Pad a map so that each window of a pool is whole, those that `ceil` adds included."""
    top, left, _, _ = pool.pads
    ends = [
        max(0, (n - 1) * s + (k - 1) * d + 1 - have - before)
        for n, s, k, d, have, before in zip(
            size, pool.stride, pool.kernel, dilation, x.shape[:2], (top, left), strict=True
        )
    ]
    return np.pad(x, ((top, ends[0]), (left, ends[1]), (0, 0)), constant_values=value)


def window_counts(layer: op.AveragePool, map_size: op.Pair, size: op.Pair) -> npt.NDArray[np.int64]:
    """Positions each window divides by, ``[OH, OW]``: those in the map, or in its declared padding too."""
    before, after = layer.pads[:2], layer.pads[2:]
    along = []
    for axis in (0, 1):
        starts = np.arange(size[axis]) * layer.stride[axis] - before[axis]
        low, high = (-before[axis], map_size[axis] + after[axis]) if layer.count_pads else (0, map_size[axis])
        stops = np.minimum(starts + layer.kernel[axis], high)
        along.append(stops - np.maximum(starts, low))
    return np.outer(*along)


@compute.register
def _global_average_pool(layer: op.GlobalAveragePool, x: Float32) -> Float32:
    total = np.zeros((1, 1, x.shape[2]), np.float32)
    for row, column in np.ndindex(x.shape[:2]):
        total += x[row, column]
    return total * average_factor(x.shape[0] * x.shape[1])


_ELEMENTWISE: dict[op.ElementwiseKind, Callable[[Float32, Float32], Float32]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@compute.register
def _elementwise(layer: op.Elementwise, *inputs: Float32) -> Float32:
    return reduce(_ELEMENTWISE[layer.kind], inputs)


@compute.register
def _concat(layer: op.Concat, *inputs: Float32) -> Float32:
    return np.concatenate(inputs, axis=layer.axis)


@compute.register
def _flatten(layer: op.Flatten, x: Float32) -> Float32:
    return (x.transpose(2, 0, 1) if layer.order == "chw" and x.ndim == 3 else x).reshape(-1)


@compute.register
def _reshape(layer: op.Reshape, x: Float32) -> Float32:
    return x.reshape(layer.shape)


@compute.register
def _transpose(layer: op.Transpose, x: Float32) -> Float32:
    return x.transpose(layer.order)


@compute.register
def _pad(layer: op.Pad, x: Float32) -> Float32:
    top, left, bottom, right = layer.pads
    return np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=layer.value)


@compute.register
def _slice(layer: op.Slice, x: Float32) -> Float32:
    return x[tuple(slice(*bounds) for bounds in zip(layer.starts, layer.stops, layer.steps, strict=True))]


@compute.register
def _softmax(layer: op.Softmax, x: Float32) -> Float32:
    powers = np.exp(x - x.max(axis=layer.axis, keepdims=True))
    result: Float32 = powers / powers.sum(axis=layer.axis, keepdims=True)
    return result


@compute.register
def _resize(layer: op.Resize, x: Float32) -> Float32:
    if layer.mode == "nearest":
        factors = [size // have for size, have in zip(layer.size, x.shape[:2], strict=True)]
        return x.repeat(factors[0], axis=0).repeat(factors[1], axis=1)
    for axis in (0, 1):
        x = _interpolated(x, axis, layer.size[axis], layer.coordinates)
    return x


def _interpolated(x: Float32, axis: int, size: int, coordinates: str) -> Float32:
    have = x.shape[axis]
    at = np.arange(size, dtype=np.float32)
    if coordinates == "half_pixel":
        at = (at + np.float32(0.5)) * np.float32(have / size) - np.float32(0.5)
    elif coordinates == "asymmetric":
        at = at * np.float32(have / size)
    else:
        at = at * np.float32((have - 1) / (size - 1) if size > 1 else 0)
    at = at.clip(0, have - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, have - 1)
    weight = (at - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    result: Float32 = x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight
    return result.astype(np.float32)


@compute.register
def _l2_norm(layer: op.L2Norm, x: Float32) -> Float32:
    squares: Float32 = (x * x).sum(axis=-1, keepdims=True)
    norms: Float32 = np.sqrt(np.maximum(squares, np.float32(layer.epsilon))).astype(np.float32)
    return x / norms if layer.scale is None else x / norms * layer.scale
