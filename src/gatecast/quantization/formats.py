"""Which formats each layer with weights gets, and which layers run on the host."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gatecast.graph import (
    Activation,
    Affine,
    AveragePool,
    Concat,
    Convolution,
    Elementwise,
    Encode,
    GlobalAveragePool,
    Graph,
    Layer,
    MatMul,
    MaxPool,
    Resize,
    Slice,
)
from gatecast.numerics import FormatPair


@dataclass(frozen=True)
class Formats:
    """What was asked for: formats of the rest, of first convolutions, and of layers by name."""

    rest: FormatPair
    first: FormatPair
    overrides: Mapping[str, FormatPair] = field(default_factory=dict)


def formats_of(graph: Graph, wanted: Formats) -> dict[str, FormatPair]:
    """Formats of each convolution and matrix product of `graph`, by name."""
    host = host_values(graph)
    chosen = {}
    for layer in graph.layers:
        if isinstance(layer, Convolution | MatMul):
            default = wanted.first if _decoded(graph, layer) in host else wanted.rest
            chosen[layer.name] = wanted.overrides.get(layer.name, default)
    return chosen


def _decoded(graph: Graph, layer: Layer) -> str:
    """Name of the value that a layer reads, before it was encoded."""
    source = graph.by_name.get(layer.inputs[0])
    return source.inputs[0] if isinstance(source, Encode) else layer.inputs[0]


def host_values(graph: Graph) -> set[str]:
    """Names of inputs and of values that the host computes in float32.

    Convolutions and matrix products are the device's. So is anything else that the device can do, if it
    reads a value of the device; work before the first convolution stays exact on the host.
    """
    host = {value.name for value in graph.inputs}
    for layer in graph.layers:
        if isinstance(layer, Convolution | MatMul):
            continue
        if not can_run_on_device(graph, layer) or all(name in host for name in layer.inputs):
            host.add(layer.name)
    return host


def can_run_on_device(graph: Graph, layer: Layer) -> bool:
    """Whether the contract defines `layer`, so that it may run on the device."""
    match layer:
        case Activation():
            return layer.kind not in ("sigmoid", "silu")
        case Concat():
            return layer.axis in (-1, len(graph.shapes[layer.name]) - 1)
        case Slice():
            return len(layer.steps) == 3 and layer.steps[-1] == 1
        case Resize():
            return layer.mode == "nearest"
        case MaxPool():
            return layer.dilation == (1, 1)
    return isinstance(
        layer, Convolution | MatMul | AveragePool | GlobalAveragePool | Elementwise | Affine | Encode
    )
