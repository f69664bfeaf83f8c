"""Fold batch norms into the layer before them; what is left becomes a scale and a shift.

Ref: docs/spec/numerics.md §4: in float64, each result rounded once to float32.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gatecast.errors import GraphError
from gatecast.graph import Affine, BatchNorm, BlockWeights, Convolution, Graph, Layer, MatMul

from .report import Report

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Norm:
    """``(x - mean) * scale + shift`` in float64; `mean` apart, as folding rounds once."""

    scale: Float64
    mean: Float64
    shift: Float64


def fold(graph: Graph, report: Report) -> Graph:
    """Fold each norm or scale whose operand is a convolution or matrix product that nothing else reads."""
    layers: dict[str, Layer] = {}
    renamed: dict[str, str] = {}
    for layer in graph.layers:
        layer = replace(layer, inputs=tuple(renamed.get(name, name) for name in layer.inputs))
        if not isinstance(layer, BatchNorm | Affine):
            layers[layer.name] = layer
            continue
        norm = _norm(layer)
        source = layers.get(layer.inputs[0])
        if isinstance(source, Convolution | MatMul) and _is_private(graph, source.name, layer.name, renamed):
            layers[source.name] = _folded(source, norm)
            renamed[layer.name] = source.name
            report.folded.append((layer.name, source.name))
        else:
            layers[layer.name] = layer if isinstance(layer, Affine) else _affine(layer, norm)
    return _rename(graph, tuple(layers.values()), renamed)


def _is_private(graph: Graph, source: str, reader: str, renamed: dict[str, str]) -> bool:
    """Whether `reader` is all that reads `source`, norms that were folded into it counted."""
    values = [source, *(old for old, new in renamed.items() if new == source)]
    last = next(name for name in values if reader in {layer.name for layer in graph.consumers[name]})
    return len(graph.consumers[last]) == 1 and last not in graph.outputs


def _norm(layer: BatchNorm | Affine) -> _Norm:
    if isinstance(layer, Affine):
        scale = layer.scale.astype(np.float64)
        return _Norm(scale, np.zeros_like(scale), layer.shift.astype(np.float64))
    variance = layer.variance.astype(np.float64) + float(np.float32(layer.epsilon))
    if not (variance > 0).all():
        channel = int(np.argmax(~(variance > 0)))
        raise GraphError(
            f"Variance of {layer.name} must be positive, not {layer.variance[channel]} at {channel}"
        )
    scale = layer.gamma.astype(np.float64) / np.sqrt(variance)
    return _Norm(scale, layer.mean.astype(np.float64), layer.beta.astype(np.float64))


def _folded(source: Convolution | MatMul, norm: _Norm) -> Convolution | MatMul:
    if isinstance(source.weights, BlockWeights):
        raise GraphError(f"Layer {source.name} must have float32 weights to take a norm, not blocks")
    weights = (source.weights * norm.scale[:, None, None, None]).astype(np.float32)
    bias = np.zeros(len(weights)) if source.bias is None else source.bias.astype(np.float64)
    return replace(
        source, weights=weights, bias=((bias - norm.mean) * norm.scale + norm.shift).astype(np.float32)
    )


def _affine(layer: BatchNorm, norm: _Norm) -> Affine:
    return Affine(
        name=layer.name,
        inputs=layer.inputs,
        scale=norm.scale.astype(np.float32),
        shift=(norm.shift - norm.mean * norm.scale).astype(np.float32),
    )


def _rename(graph: Graph, layers: tuple[Layer, ...], renamed: dict[str, str]) -> Graph:
    """The graph with `layers`, its outputs and ports following values that have another name now."""
    outputs = tuple(renamed.get(name, name) for name in graph.outputs)
    ports = tuple(
        replace(port, value=renamed.get(port.value, port.value)) for port in graph.interface.outputs
    )
    interface = replace(graph.interface, outputs=ports)
    return replace(graph, layers=layers, outputs=outputs, interface=interface)
