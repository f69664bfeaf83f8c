"""Convolution, matrix multiply, batch norm and padding."""

import math
from dataclasses import replace

import numpy as np

from gatecast.errors import FileError
from gatecast.graph import (
    BatchNorm,
    BlockWeights,
    Convolution,
    Encode,
    MatMul,
    Pad,
    Pair,
    Slice,
)

from ..block_weights import gather_blocks
from ..network import Network, NotSupportedError
from ..node import Float32, Node, finite, operator
from ..values import BATCH, AnyConstant, BlockConstant, Constant, Value, View
from .windows import pair, window_pads


@operator("Conv")
def convolution(node: Node, network: Network) -> Value:
    """2-D convolution with constant weights (O, I / groups, kh, kw)."""
    weights = node.constant(1)
    if len(weights.shape) != 4:
        raise NotSupportedError(f"is {len(weights.shape) - 2}-dimensional; only 2-D convolution is known")
    source = network.map(node.input(0))
    groups = int(node.attribute("group", 1))
    kernel: Pair = weights.shape[2], weights.shape[3]
    stride, dilation = pair(node, "strides"), pair(node, "dilations")
    layer = Convolution(
        name=network.unique(node.name),
        inputs=(source.value,),
        weights=_weights(network, source, weights, groups),
        bias=None if node.input(2) is None else node.weights(2),
        stride=stride,
        pads=window_pads(node, network.shapes[source.value], kernel, stride, dilation),
        dilation=dilation,
        groups=groups,
    )
    return network.add(layer)


def _weights(network: Network, source: View, weights: AnyConstant, groups: int) -> Float32 | BlockWeights:
    """(O, I, kh, kw) to (O, kh, kw, I); in blocks if the file has them so and the value read is encoded."""
    if isinstance(weights, BlockConstant) and isinstance(network.layers.get(source.value), Encode):
        return gather_blocks(weights, groups)
    return np.ascontiguousarray(finite(weights).transpose(0, 2, 3, 1))


@operator("Gemm")
def gemm(node: Node, network: Network) -> Value:
    """``alpha * A @ B + beta * C`` with constant B and C."""
    if node.attribute("transA", 0):
        raise NotSupportedError("transA must be 0")
    matrix = node.constant(1)
    if not node.attribute("transB", 0):
        matrix = _transposed(matrix)
    alpha, beta = float(node.attribute("alpha", 1.0)), float(node.attribute("beta", 1.0))
    if alpha != 1.0:
        matrix = Constant(matrix.name, finite(matrix) * np.float32(alpha))
    bias = None
    if node.input(2) is not None and beta != 0.0:
        bias = np.float32(beta) * node.weights(2)
    return _fully_connected(node, network, matrix, bias)


@operator("MatMul")
def matmul(node: Node, network: Network) -> Value:
    """A product with a constant matrix on the right."""
    matrix = node.constant(1)
    if len(matrix.shape) != 2:
        raise NotSupportedError(
            f"multiplies by an array of {len(matrix.shape)} axes; only matrices are known"
        )
    return _fully_connected(node, network, _transposed(matrix), None)


def _transposed(matrix: AnyConstant) -> AnyConstant:
    if isinstance(matrix, BlockConstant):
        return replace(matrix, mantissas=matrix.mantissas.T, shifts=matrix.shifts.T)
    return Constant(matrix.name, matrix.array.T)


def _fully_connected(node: Node, network: Network, matrix: AnyConstant, bias: Float32 | None) -> Value:
    view = network.view(node.input(0))
    if len(view.axes) != 2 or view.axes[0] != (BATCH,):
        raise NotSupportedError("must read (batch, features)")
    outputs = matrix.shape[0]
    if bias is not None:
        bias = np.ascontiguousarray(np.broadcast_to(bias, (1, outputs))[0])
    if len(network.shapes[view.value]) not in (1, 3):
        view = network.arranged(view, (1,))
    layer = MatMul(
        name=network.unique(node.name),
        inputs=(view.value,),
        weights=_matrix(network, view, matrix),
        bias=bias,
    )
    return network.add(layer)


def _matrix(network: Network, view: View, matrix: AnyConstant) -> Float32 | BlockWeights:
    """Weights (O, features) as (O, rows, columns, channels) of the value that `view` flattens."""
    shape = network.shapes[view.value]
    if matrix.shape[1] != math.prod(shape):
        raise FileError(
            f"Tensor {matrix.name} must have {math.prod(shape)} values for each output, not {matrix.shape[1]}"
        )
    inner = (1, 1, *shape) if len(shape) == 1 else shape
    order = view.axes[1]

    def restore(array: np.ndarray) -> np.ndarray:
        outputs = array.shape[0]
        parted = array.reshape(outputs, *(shape[axis] for axis in order))
        sorted_axes = parted.transpose(0, *(1 + order.index(axis) for axis in sorted(order)))
        return np.ascontiguousarray(sorted_axes.reshape(outputs, *inner))

    if isinstance(matrix, BlockConstant) and isinstance(network.layers.get(view.value), Encode):
        blocks = BlockConstant(
            matrix.name,
            restore(matrix.mantissas).transpose(0, 3, 1, 2),
            restore(matrix.shifts).transpose(0, 3, 1, 2),
            matrix.format,
        )
        return gather_blocks(blocks, 1)
    return restore(finite(matrix))


@operator("BatchNormalization")
def batch_norm(node: Node, network: Network) -> Value:
    """Batch norm with its statistics in the file."""
    if node.attribute("training_mode", 0) or (node.opset < 7 and not node.attribute("is_test", 0)):
        raise NotSupportedError("is in training mode; export the network for inference")
    if not node.attribute("spatial", 1):
        raise NotSupportedError("has statistics for each pixel (spatial = 0)")
    view = network.view(node.input(0))
    view = network.map(view) if len(view.axes) == 4 else network.arranged(view, range(1, len(view.axes)))
    if len(network.shapes[view.value]) not in (1, 3):
        raise NotSupportedError(f"reads a tensor of {len(view.axes)} axes")
    gamma, beta, mean, variance = (node.weights(index) for index in range(1, 5))
    epsilon = float(np.float32(node.attribute("epsilon", 1e-5)))
    return network.chain(
        view, BatchNorm, node.name, gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=epsilon
    )


@operator("Pad")
def pad(node: Node, network: Network) -> Value:
    """A constant around a map; negative padding cuts."""
    mode = node.attribute("mode", "constant")
    if mode != "constant":
        raise NotSupportedError(f"mode must be constant, not {mode}")
    view = network.view(node.input(0))
    rank = len(view.axes)
    before, after = _pad_amounts(node, rank)
    if not any(before) and not any(after):
        return view
    view, order = network.arrange(view)
    low, high = [before[axis] for axis in order], [after[axis] for axis in order]
    if before[0] or after[0] or len(order) != 3 or low[2] or high[2]:
        raise NotSupportedError("pads something else than the rows and columns of a map")
    value = node.number("value", 2, 0.0)
    if min(*low, *high) < 0:
        view = _cut(node, network, view, order, low, high)
    grown = (max(low[0], 0), max(low[1], 0), max(high[0], 0), max(high[1], 0))
    if not any(grown):
        return view
    layer = Pad(name=network.unique(node.name), inputs=(view.value,), pads=grown, value=value or 0.0)
    return network.add(layer, order)


def _pad_amounts(node: Node, rank: int) -> tuple[list[int], list[int]]:
    """Padding before and after each axis of the tensor."""
    amounts = node.ints("pads", 1) or node.ints("paddings") or []
    named = [axis % rank for axis in node.ints("axes", 3) or range(rank)]
    if len(amounts) != 2 * len(named):
        raise FileError(f"Node {node.name} must pad {len(named)} axes, not {len(amounts) / 2:g}")
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(named):
        before[axis], after[axis] = amounts[place], amounts[place + len(named)]
    return before, after


def _cut(
    node: Node, network: Network, view: View, order: tuple[int, ...], low: list[int], high: list[int]
) -> View:
    shape = network.shapes[view.value]
    layer = Slice(
        name=network.unique(f"{node.name}.cut"),
        inputs=(view.value,),
        starts=tuple(max(-amount, 0) for amount in low),
        stops=tuple(size + min(amount, 0) for size, amount in zip(shape, high, strict=True)),
        steps=(1,) * len(shape),
    )
    return network.add(layer, order)
