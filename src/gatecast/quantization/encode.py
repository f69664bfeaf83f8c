"""Insert every `Encode`, and put weights and constants into the contract's form.

Ref: docs/spec/numerics.md §§1, 3, 4.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gatecast.errors import GraphError
from gatecast.graph import (
    Activation,
    Affine,
    BlockWeights,
    Convolution,
    Encode,
    Graph,
    Layer,
    MatMul,
    first_blocks,
    pieces_of,
)
from gatecast.numerics import (
    BLOCK_SIZE,
    EXPONENT_MIN,
    LARGEST,
    NO_LIMIT,
    SCALE_LARGEST,
    SCALE_SMALLEST,
    SMALLEST,
    Format,
    FormatPair,
)
from gatecast.numerics import encode as encode_blocks

from .formats import Formats, formats_of, host_values
from .fuse import Plan
from .report import Flushed, LayerFormats, Report

Float32 = npt.NDArray[np.float32]


def encode(graph: Graph, plan: Plan, wanted: Formats, report: Report) -> Graph:
    """Return the quantised graph: an `Encode` behind each value that the device reads, weights in blocks."""
    formats = formats_of(graph, wanted)
    host = host_values(graph)

    def format_read(layer: Layer, operand: str) -> Format | None:
        """Format in which the device reads an operand; None where it is not rounded, or the host reads it."""
        if layer.name in host or plan.operands.get(layer.name) == operand:
            return None
        return formats[layer.name].activations if layer.name in formats else wanted.rest.activations

    encodes = _encodes(graph, format_read)
    layers: list[Layer] = []
    for value in graph.inputs:
        layers += encodes.get(value.name, {}).values()
    for layer in graph.layers:
        layers.append(_quantized(_rewired(layer, encodes, host, format_read), formats, report))
        layers += encodes.get(layer.name, {}).values()
    report.encodes = sum(isinstance(layer, Encode) for layer in layers)
    return graph.with_layers(layers)


FormatRead = Callable[[Layer, str], Format | None]


def _encodes(graph: Graph, format_read: FormatRead) -> dict[str, dict[Format, Encode]]:
    """For each value that the device reads, one `Encode` for each format."""
    found: dict[str, dict[Format, Encode]] = {}
    for layer in graph.layers:
        for operand in layer.inputs:
            if (fmt := format_read(layer, operand)) is not None:
                encode = Encode(name=f"{operand}.{fmt}", inputs=(operand,), format=fmt)
                found.setdefault(operand, {}).setdefault(fmt, encode)
    return found


def _rewired(
    layer: Layer, encodes: dict[str, dict[Format, Encode]], host: set[str], format_read: FormatRead
) -> Layer:
    """The layer reading encoded values; the host reads one too where the device stores nothing else."""

    def source(operand: str) -> str:
        fmt = format_read(layer, operand)
        if fmt is not None:
            return encodes[operand][fmt].name
        if layer.name in host and operand not in host and operand in encodes:
            return next(iter(encodes[operand].values())).name
        return operand

    return replace(layer, inputs=tuple(source(name) for name in layer.inputs))


def _quantized(layer: Layer, formats: Mapping[str, FormatPair], report: Report) -> Layer:
    """The layer with its constants within the contract's limits, and its weights in blocks."""
    match layer:
        case Convolution() | MatMul():
            pair = formats[layer.name]
            groups = layer.groups if isinstance(layer, Convolution) else 1
            weights = _encode_weights(layer, np.asarray(layer.weights), groups, pair, report)
            bias = (
                None if layer.bias is None else _limited(layer, "bias", layer.bias, SMALLEST, LARGEST, report)
            )
            return replace(layer, weights=weights, bias=bias)
        case Affine():
            scale = _limited(layer, "scale", layer.scale, SCALE_SMALLEST, SCALE_LARGEST, report)
            return replace(
                layer, scale=scale, shift=_limited(layer, "shift", layer.shift, SMALLEST, LARGEST, report)
            )
        case Activation():
            return _limited_activation(layer, report)
    return layer


def _limited_activation(layer: Activation, report: Report) -> Activation:
    def scale(field: str) -> float:
        value = np.float32(getattr(layer, field))
        return float(_limited(layer, field, value.reshape(1), SCALE_SMALLEST, SCALE_LARGEST, report)[0])

    def limit(field: str) -> float:
        value = np.float32(getattr(layer, field))
        if abs(value) >= NO_LIMIT:
            return float(np.copysign(NO_LIMIT, value))
        return float(_limited(layer, field, value.reshape(1), SMALLEST, LARGEST, report)[0])

    match layer.kind:
        case "clip":
            return replace(layer, low=limit("low"), high=limit("high"))
        case "leaky_relu":
            slope = scale("low")
            if not 0 <= slope < 1:
                raise GraphError(f"Slope of {layer.name} must be at least 0 and below 1, not {slope}")
            return replace(layer, low=slope) if slope else replace(layer, kind="relu", low=-NO_LIMIT)
        case "hard_sigmoid" | "hard_swish":
            return replace(layer, low=scale("low"), high=limit("high"))
    return layer


def _limited(
    layer: Layer, field: str, values: Float32, smallest: float, largest: float, report: Report
) -> Float32:
    """Values below `smallest` become 0; one beyond `largest` or not finite is refused."""
    magnitude = np.abs(values)
    if not (magnitude <= largest).all():
        index = int(np.argmax(~(magnitude <= largest)))
        raise GraphError(
            f"{field.capitalize()} of {layer.name} must be finite and at most {largest:g}, "
            f"not {values[index]:g} at {index}",
            hint="Keep this layer in float, or scale its weights so that the constant becomes smaller.",
        )
    small = (magnitude < smallest) & (values != 0)
    if small.any():
        report.flushed.append(Flushed(layer.name, field, int(small.sum())))
    return np.where(small, np.float32(0), values).astype(np.float32) + np.float32(0)


def _encode_weights(
    layer: Layer, weights: Float32, groups: int, pair: FormatPair, report: Report
) -> BlockWeights:
    """Weights (O, kh, kw, channels of a group) in blocks, lane for lane on the input's stored blocks."""
    if not np.isfinite(weights).all():
        index = [int(i) for i in np.argwhere(~np.isfinite(weights))[0]]
        raise GraphError(f"Weights of {layer.name} must be finite, not {weights[tuple(index)]} at {index}")
    aligned = align_to_blocks(weights, groups)
    mantissas, exponents = encode_blocks(aligned.reshape(*aligned.shape[:3], -1), pair.weights)
    blocks = BlockWeights(pair.weights, mantissas, exponents, weights.shape[3])
    largest = np.abs(aligned).max(axis=-1)
    lost = int(((largest > 0) & (largest < 2.0**EXPONENT_MIN)).sum())
    if lost:
        report.flushed.append(Flushed(layer.name, "weight blocks", lost))
    report.layers.append(LayerFormats(layer.name, pair, weights.size, _sqnr_db(aligned, blocks)))
    return blocks


def align_to_blocks(weights: Float32, groups: int) -> Float32:
    """(O, kh, kw, channels of a group) to (O, kh, kw, P, 32), each channel in its stored block's lane."""
    outputs, rows, columns, channels = weights.shape
    pieces = pieces_of(channels, groups)
    aligned = np.zeros((outputs, rows, columns, pieces * BLOCK_SIZE), np.float32)
    per_group = outputs // groups
    for group, first in enumerate(first_blocks(channels, groups)):
        lane = group * channels - first * BLOCK_SIZE
        rows_of_group = slice(group * per_group, (group + 1) * per_group)
        aligned[rows_of_group, ..., lane : lane + channels] = weights[rows_of_group]
    return aligned.reshape(outputs, rows, columns, pieces, BLOCK_SIZE)


def _sqnr_db(aligned: Float32, blocks: BlockWeights) -> float:
    """Power of the weights over the power of what rounding changed, in dB."""
    noise = float(((aligned.astype(np.float64) - blocks.decode()) ** 2).sum())
    signal = float((aligned.astype(np.float64) ** 2).sum())
    return 10 * float(np.log10(signal / noise)) if noise and signal else float("inf")
