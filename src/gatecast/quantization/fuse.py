"""Decide which elementwise layers ride in the epilogue of the layer before them.

Such a layer takes its operand without rounding. The plan is the set of these operands; everything else
that the device reads is encoded.

Ref: docs/spec/numerics.md §§3-4.
"""

from dataclasses import dataclass, field

from gatecast.graph import Activation, Affine, Convolution, Elementwise, Graph, Layer, MatMul

from .formats import host_values
from .report import Report

_STEPS = {"affine": 1, "residual": 2, "activation": 3}  # order in an epilogue


@dataclass
class Plan:
    """For each layer that rides in an epilogue, the operand that it takes without rounding."""

    operands: dict[str, str] = field(default_factory=dict)


@dataclass
class _Chain:
    """Layers computed as one instruction: the root, and the last step of the epilogue so far."""

    root: Layer
    step: int = 0
    scaled: bool = False


def fuse(graph: Graph, report: Report) -> Plan:
    """Walk the layers in order and let each join the chain that ends in its operand, if it may."""
    host = host_values(graph)
    position = {layer.name: index for index, layer in enumerate(graph.layers)}
    plan = Plan()
    chains: dict[str, _Chain] = {}
    for layer in graph.layers:
        if layer.name in host:
            continue
        candidates = sorted(layer.inputs, key=lambda name: position.get(name, -1), reverse=True)
        for operand in candidates:  # of two convolutions the later one takes the other as its residual
            chain = chains.get(operand)
            if chain is not None and _is_private(graph, operand, layer) and _joins(layer, chain):
                plan.operands[layer.name] = operand
                chains[layer.name] = chain
                report.fused.append((layer.name, chain.root.name))
                break
        else:
            if isinstance(layer, Convolution | MatMul | Elementwise | Affine):
                chains[layer.name] = _Chain(layer, step=1 if isinstance(layer, Affine) else 0)
    return plan


def _is_private(graph: Graph, value: str, reader: Layer) -> bool:
    return len(graph.consumers[value]) == 1 and value not in graph.outputs and reader.inputs.count(value) == 1


def _joins(layer: Layer, chain: _Chain) -> bool:
    """Take `layer` into `chain` if the instruction can compute it there."""
    convolves = isinstance(chain.root, Convolution | MatMul)
    match layer:
        case Affine():
            step = _STEPS["affine"]
        case Elementwise(kind="add", inputs=(_, _)) if convolves:
            step = _STEPS["residual"]
        case Activation(kind="relu" | "clip"):
            step = _STEPS["activation"]
        case Activation() if not convolves and not (_multiplies(chain.root) and chain.scaled):
            step = _STEPS["activation"]
        case _:
            return False
    if step <= chain.step:
        return False
    chain.step = step
    chain.scaled |= step == _STEPS["affine"]
    return True


def _multiplies(layer: Layer) -> bool:
    return isinstance(layer, Elementwise) and layer.kind == "multiply"
