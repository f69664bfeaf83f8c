"""What each layer costs and where it runs, for `gatecast compile` and the artifact."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from gatecast.artifact import LayerReport
from gatecast.graph import BlockWeights, Convolution, Encode, Graph, Layer, MatMul
from gatecast.isa import Instruction, Program, external_map, panel_bytes
from gatecast.numerics import FORMATS, FormatPair

_COMPUTES = ("convolve", "pool", "map")
_VECTOR_BYTES = 128


def layer_reports(
    graph: Graph, on_device: Mapping[str, bool], programs: Iterable[Program]
) -> tuple[LayerReport, ...]:
    """A report on each layer of `graph`, in its order.

    Parameters
    ----------
    on_device : mapping of layer name to bool
        Layers that are not there were dropped, as nothing reads them.
    programs : iterable of Program
        Device stages. What an operation of several layers costs is told of its first one.
    """
    tiles: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    for program in programs:
        for instruction in program.body:
            if instruction.name == "end":
                continue
            layer = program.layer_name(instruction.layer)
            tiles[layer] += instruction.name in _COMPUTES
            moved[layer] += moved_bytes(instruction)
    return tuple(
        LayerReport(
            name=layer.name,
            kind=type(layer).__name__,
            where="device" if on_device[layer.name] else "host",
            macs=_macs(graph, layer),
            weight_bytes=_weight_bytes(layer),
            bytes=moved[layer.name],
            tiles=tiles[layer.name],
        )
        for layer in graph.layers
        if layer.name in on_device
    )


def moved_bytes(instruction: Instruction) -> int:
    """Bytes that an instruction moves through external memory."""
    match instruction.name:
        case "weights":
            return int(instruction.count * panel_bytes(instruction.format))
        case "constants":
            return int(instruction.count * _VECTOR_BYTES)
        case "load" | "store":
            external = external_map(instruction)
            blocks = math.prod(external.shape)
            size = FORMATS[external.format].block_bytes + 1 if external.encoded else _VECTOR_BYTES
            return int(blocks * size)
    return 0


def _macs(graph: Graph, layer: Layer) -> int:
    if not isinstance(layer, Convolution | MatMul):
        return 0
    pixels = math.prod(graph.shapes[layer.name][:-1])
    return pixels * math.prod(layer.weights.shape)


def _weight_bytes(layer: Layer) -> int:
    if not isinstance(layer, Convolution | MatMul):
        return 0
    if isinstance(layer.weights, BlockWeights):
        return layer.weights.exponents.size * (layer.weights.format.block_bytes + 1)
    return int(layer.weights.nbytes)


def formats_of(graph: Graph) -> str:
    """Formats that most layers with weights have, such as ``bfp5/bfp6``; ``float32`` if none is in blocks."""
    found: Counter[str] = Counter()
    for layer in graph.layers:
        if isinstance(layer, Convolution | MatMul) and isinstance(layer.weights, BlockWeights):
            source = graph.by_name.get(layer.inputs[0])
            if isinstance(source, Encode):
                found[str(FormatPair(layer.weights.format, source.format))] += layer.weights.mantissas.size
    return max(found, key=lambda name: (found[name], name)) if found else "float32"
