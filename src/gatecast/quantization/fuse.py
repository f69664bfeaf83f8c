"""Decide which elementwise layers ride in the epilogue of the layer before them.

Such a layer takes its operand without rounding. The plan is the set of these operands; everything else
that the device reads is encoded.

Ref: docs/spec/numerics.md §§3-4.
"""

from dataclasses import dataclass, field

from gatecast.graph import Chain, Graph, is_private

from .formats import host_values
from .report import Report


@dataclass
class Plan:
    """For each layer that rides in an epilogue, the operand that it takes without rounding."""

    operands: dict[str, str] = field(default_factory=dict)


def fuse(graph: Graph, report: Report) -> Plan:
    """Walk the layers in order and let each join the chain that ends in its operand, if it may."""
    host = host_values(graph)
    position = {layer.name: index for index, layer in enumerate(graph.layers)}
    plan = Plan()
    chains: dict[str, Chain] = {}
    for layer in graph.layers:
        if layer.name in host:
            continue
        candidates = sorted(layer.inputs, key=lambda name: position.get(name, -1), reverse=True)
        for operand in candidates:  # of two convolutions the later one takes the other as its residual
            chain = chains.get(operand)
            if chain is not None and is_private(graph, operand, layer) and chain.join(layer):
                plan.operands[layer.name] = operand
                chains[layer.name] = chain
                report.fused.append((layer.name, chain.root.name))
                break
        else:
            chains[layer.name] = Chain.begin(layer)
    return plan
