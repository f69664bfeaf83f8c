"""The nodes of each layer: one function for each, in the order of operations of the arithmetic contract.

Ref: docs/spec/onnx.md §4.
"""

from functools import singledispatch

import numpy as np

from gatecast import graph as op
from gatecast.errors import GraphError
from gatecast.graph import BlockWeights, Layer, Pads
from gatecast.numerics import NO_LIMIT, average_factor

from .network import natural
from .weight_nodes import block_weights
from .writer import Writer


@singledispatch
def write_layer(layer: Layer, writer: Writer) -> None:
    """Add the nodes of `layer`."""
    raise GraphError(f"Layer {layer.name} must be of a kind that ONNX can hold, not {type(layer).__name__}")


@write_layer.register
def _encode(layer: op.Encode, writer: Writer) -> None:
    shape = writer.shape(layer.inputs[0])
    if len(shape) not in (1, 3):
        raise GraphError(f"Layer {layer.name} must encode a map or a vector, not a value of shape {shape}")
    (tensor,) = writer.reads(layer)
    writer.encode(layer, tensor, layer.format, shape[-1])


@write_layer.register
def _convolution(layer: op.Convolution, writer: Writer) -> None:
    name = f"{layer.name}.weight"
    if isinstance(layer.weights, BlockWeights):
        weights = block_weights(writer, name, layer.weights, layer.groups)
    else:
        weights = writer.constant(name, layer.weights.transpose(0, 3, 1, 2))
    writer.layer(
        layer,
        "Conv",
        *writer.reads(layer),
        weights,
        *_bias(layer, writer),
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=layer.pads,
        dilations=layer.dilation,
        group=layer.groups,
    )


def _bias(layer: op.Convolution | op.MatMul, writer: Writer) -> list[str]:
    return [] if layer.bias is None else [writer.constant(f"{layer.name}.bias", layer.bias)]


@write_layer.register
def _matmul(layer: op.MatMul, writer: Writer) -> None:
    """Gemm with transB: other forms are fused or rounded again by some runtimes."""
    (tensor,) = writer.reads(layer)
    if len(writer.shape(layer.inputs[0])) == 3:
        tensor = writer.step(f"{layer.name}.flat", "Flatten", tensor, axis=1)
    name = f"{layer.name}.weight"
    outputs, *window = layer.weights.shape
    if isinstance(layer.weights, BlockWeights):
        shape = writer.integers(f"{name}.matrix_shape", outputs, int(np.prod(window)))
        matrix = writer.step(f"{name}.matrix", "Reshape", block_weights(writer, name, layer.weights), shape)
    else:
        matrix = writer.constant(name, layer.weights.transpose(0, 3, 1, 2).reshape(outputs, -1))
    writer.layer(layer, "Gemm", tensor, matrix, *_bias(layer, writer), transB=1)


@write_layer.register
def _batch_norm(layer: op.BatchNorm, writer: Writer) -> None:
    fields = {"gamma": layer.gamma, "beta": layer.beta, "mean": layer.mean, "variance": layer.variance}
    constants = [writer.constant(f"{layer.name}.{name}", value) for name, value in fields.items()]
    writer.layer(layer, "BatchNormalization", *writer.reads(layer), *constants, epsilon=layer.epsilon)


@write_layer.register
def _affine(layer: op.Affine, writer: Writer) -> None:
    scale, shift = (_per_channel(layer, writer, name) for name in ("scale", "shift"))
    scaled = writer.step(f"{layer.name}.scaled", "Mul", *writer.reads(layer), scale)
    writer.layer(layer, "Add", scaled, shift)


def _per_channel(layer: op.Affine | op.L2Norm, writer: Writer, field: str) -> str:
    values = np.asarray(getattr(layer, field))
    shape = (-1, 1, 1) if len(writer.shape(layer.inputs[0])) == 3 else (-1,)
    return writer.constant(f"{layer.name}.{field}", values.reshape(shape))


@write_layer.register
def _activation(layer: op.Activation, writer: Writer) -> None:
    (x,) = writer.reads(layer)
    match layer.kind:
        case "relu":
            writer.layer(layer, "Relu", x)
        case "sigmoid":
            writer.layer(layer, "Sigmoid", x)
        case "leaky_relu":
            writer.layer(layer, "LeakyRelu", x, alpha=layer.low)
        case "hard_sigmoid":
            writer.layer(layer, "HardSigmoid", x, alpha=layer.low, beta=layer.high)
        case "hard_swish":
            gate = writer.step(f"{layer.name}.gate", "HardSigmoid", x, alpha=layer.low, beta=layer.high)
            writer.layer(layer, "Mul", x, gate)
        case "silu":
            writer.layer(layer, "Mul", x, writer.step(f"{layer.name}.gate", "Sigmoid", x))
        case "clip":
            low = "" if layer.low <= -NO_LIMIT else writer.number(f"{layer.name}.low", layer.low)
            high = "" if layer.high >= NO_LIMIT else writer.number(f"{layer.name}.high", layer.high)
            writer.layer(layer, "Clip", x, low, high)


@write_layer.register
def _max_pool(layer: op.MaxPool, writer: Writer) -> None:
    writer.layer(
        layer,
        "MaxPool",
        *writer.reads(layer),
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=layer.pads,
        dilations=layer.dilation,
        ceil_mode=int(layer.ceil),
    )


@write_layer.register
def _average_pool(layer: op.AveragePool, writer: Writer) -> None:
    writer.layer(
        layer,
        "AveragePool",
        *writer.reads(layer),
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=layer.pads,
        ceil_mode=int(layer.ceil),
        count_include_pad=int(layer.count_pads),
    )


@write_layer.register
def _global_average_pool(layer: op.GlobalAveragePool, writer: Writer) -> None:
    """Sum times fl32(1/n), as the contract has it; ONNX's GlobalAveragePool divides."""
    rows, columns, _ = writer.shape(layer.inputs[0])
    axes = writer.integers(f"{layer.name}.axes", 2, 3)
    total = writer.step(f"{layer.name}.sum", "ReduceSum", *writer.reads(layer), axes, keepdims=1)
    factor = writer.number(f"{layer.name}.factor", float(average_factor(rows * columns)))
    writer.layer(layer, "Mul", total, factor)


_ELEMENTWISE = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "maximum": "Max", "minimum": "Min"}


@write_layer.register
def _elementwise(layer: op.Elementwise, writer: Writer) -> None:
    kind = _ELEMENTWISE[layer.kind]
    left, *rest = writer.reads(layer)
    if kind in ("Max", "Min"):
        writer.layer(layer, kind, left, *rest)
        return
    for operand in rest[:-1]:
        left = writer.step(f"{layer.name}.partial", kind, left, operand)
    writer.layer(layer, kind, left, rest[-1])


@write_layer.register
def _concat(layer: op.Concat, writer: Writer) -> None:
    writer.layer(layer, "Concat", *writer.reads(layer), axis=_axis(layer.axis, layer, writer))


def _axis(inner: int, layer: Layer, writer: Writer) -> int:
    """Axis of the tensor for an inner axis."""
    return natural(len(writer.shape(layer.inputs[0])))[inner]


@write_layer.register
def _flatten(layer: op.Flatten, writer: Writer) -> None:
    if layer.order == "chw":
        (tensor,) = writer.reads(layer)
    else:
        tensor = writer.as_it_lies(f"{layer.name}.nhwc", layer.inputs[0])
    writer.layer(layer, "Flatten", tensor, axis=1, mark=f"Flatten {layer.order}")


@write_layer.register
def _reshape(layer: op.Reshape, writer: Writer) -> None:
    tensor = writer.as_it_lies(f"{layer.name}.nhwc", layer.inputs[0])
    shape = writer.integers(f"{layer.name}.shape", 0, *layer.shape)
    if len(layer.shape) != 3:
        writer.layer(layer, "Reshape", tensor, shape)
        return
    straight = writer.unique(f"{layer.name}.straight")
    writer.whole(layer, "Reshape", straight, tensor, shape)
    writer.turn(f"{layer.name}.nchw", straight, writer.tensors[layer.name], perm=[0, 3, 1, 2])


@write_layer.register
def _transpose(layer: op.Transpose, writer: Writer) -> None:
    usual = natural(len(layer.order))
    perm = [0] * (len(usual) + 1)
    for axis, source in zip(usual, layer.order, strict=True):
        perm[axis] = usual[source]
    writer.layer(layer, "Transpose", *writer.reads(layer), perm=perm)


@write_layer.register
def _pad(layer: op.Pad, writer: Writer) -> None:
    top, left, bottom, right = layer.pads
    pads = writer.integers(f"{layer.name}.pads", *_around(layer.pads))
    inputs = [*writer.reads(layer), pads]
    if layer.value:
        inputs.append(writer.number(f"{layer.name}.value", layer.value))
    writer.layer(layer, "Pad", *inputs)


def _around(pads: Pads) -> tuple[int, ...]:
    top, left, bottom, right = pads
    return 0, 0, top, left, 0, 0, bottom, right


@write_layer.register
def _slice(layer: op.Slice, writer: Writer) -> None:
    fields = {
        "starts": layer.starts,
        "stops": layer.stops,
        "axes": natural(len(layer.starts)),
        "steps": layer.steps,
    }
    constants = [writer.integers(f"{layer.name}.{name}", *values) for name, values in fields.items()]
    writer.layer(layer, "Slice", *writer.reads(layer), *constants)


@write_layer.register
def _softmax(layer: op.Softmax, writer: Writer) -> None:
    writer.layer(layer, "Softmax", *writer.reads(layer), axis=_axis(layer.axis, layer, writer))


@write_layer.register
def _resize(layer: op.Resize, writer: Writer) -> None:
    rows, columns, _ = writer.shape(layer.inputs[0])
    (tensor,) = writer.reads(layer)
    if layer.mode == "nearest":
        factors = np.array([1, 1, layer.size[0] // rows, layer.size[1] // columns], np.float32)
        scales = writer.constant(f"{layer.name}.scales", factors)
        writer.layer(
            layer,
            "Resize",
            tensor,
            "",
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return
    sizes = writer.integers(f"{layer.name}.size", *layer.size)
    writer.layer(
        layer,
        "Resize",
        tensor,
        "",
        "",
        sizes,
        axes=[2, 3],
        mode="linear",
        coordinate_transformation_mode=layer.coordinates,
    )


@write_layer.register
def _l2_norm(layer: op.L2Norm, writer: Writer) -> None:
    (tensor,) = writer.reads(layer)
    axis = writer.integers(f"{layer.name}.axis", _axis(-1, layer, writer))
    squares = writer.step(f"{layer.name}.squares", "ReduceSumSquare", tensor, axis, keepdims=1)
    floor = writer.number(f"{layer.name}.epsilon", layer.epsilon)
    bounded = writer.step(f"{layer.name}.bounded", "Max", squares, floor)
    norm = writer.step(f"{layer.name}.norm", "Sqrt", bounded)
    if layer.scale is None:
        writer.layer(layer, "Div", tensor, norm)
        return
    unit = writer.step(f"{layer.name}.unit", "Div", tensor, norm)
    writer.layer(layer, "Mul", unit, _per_channel(layer, writer, "scale"))
