"""Pass 1: cut a graph into stages that the host and the device run in turn.

As few stages as the dependencies allow: a layer runs in the earliest stage of its side that has what it
reads. Nothing is rewritten; encodes stay where the graph has them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gatecast.graph import Encode, Graph, Input, Interface, Layer

from .fuse import Fusion, fuse


@dataclass(frozen=True)
class Section:
    """Consecutive work of one side.

    Parameters
    ----------
    name : str
    on_device : bool
    graph : Graph
        Its layers; inputs and outputs are values that cross.
    formats : dict of str to str
        Names of the formats of inputs that are encoded.
    fusion : Fusion
        Of the whole graph.
    """

    name: str
    on_device: bool
    graph: Graph
    formats: dict[str, str]
    fusion: Fusion


def partition(graph: Graph) -> tuple[Section, ...]:
    """Cut `graph` into sections, in the order in which they run; a float graph is one of the host."""
    graph = _without_dead_layers(graph)
    fusion = fuse(graph)
    levels = _levels(graph, fusion)
    by_level: dict[int, list[Layer]] = {}
    for layer in graph.layers:
        by_level.setdefault(levels[layer.name], []).append(layer)
    return tuple(
        _section(graph, fusion, number, by_level[level], on_device=level % 2 == 1)
        for number, level in enumerate(sorted(by_level))
    )


def _without_dead_layers(graph: Graph) -> Graph:
    alive = set(graph.outputs) | {port.value for port in graph.interface.outputs}
    for layer in reversed(graph.layers):
        if layer.name in alive:
            alive.update(layer.inputs)
    return graph.with_layers(layer for layer in graph.layers if layer.name in alive)


def _levels(graph: Graph, fusion: Fusion) -> dict[str, int]:
    """Stage of each value: host stages are even, device stages odd, graph inputs come before all."""
    levels = {value.name: -1 for value in graph.inputs}
    for layer in graph.layers:
        side = int(layer.name in fusion.device)
        levels[layer.name] = max(_next(levels[name], side) for name in layer.inputs)
    for layer in reversed(graph.layers):  # a float32 value of the device stays in the stage that reads it
        readers = graph.consumers[layer.name]
        sends = layer.name in graph.outputs or not all(reader.name in fusion.device for reader in readers)
        crosses_encoded = isinstance(layer, Encode) and not _is_port_encode(graph, fusion, layer.name)
        if layer.name in fusion.device and readers and not sends and not crosses_encoded:
            levels[layer.name] = max(levels[layer.name], min(levels[reader.name] for reader in readers))
    return levels


def _next(level: int, side: int) -> int:
    """Earliest stage of a side that may read a value of `level`."""
    return max(level, 0) if max(level, 0) % 2 == side else level + 1 if level >= 0 else side


def _section(graph: Graph, fusion: Fusion, number: int, layers: list[Layer], on_device: bool) -> Section:
    own = [layer.name for layer in layers]
    if on_device:
        layers = [*_borrowed(graph, fusion, layers), *layers]
    made = {layer.name for layer in layers}
    read = _unique(name for layer in layers for name in layer.inputs if name not in made)
    wanted = {*graph.outputs, *(port.value for port in graph.interface.outputs)}
    outputs = [
        name
        for name in own
        if name in wanted
        or any(_must_send(graph, fusion, name, reader, made) for reader in graph.consumers[name])
    ]
    name = f"{graph.name}/{number}"
    inputs = tuple(Input(value, graph.shapes[value]) for value in read)
    encodes = {value: graph.by_name.get(value) for value in read}
    formats = {value: layer.format.name for value, layer in encodes.items() if isinstance(layer, Encode)}
    part = replace(
        graph,
        name=name,
        inputs=inputs,
        layers=tuple(layers),
        outputs=tuple(outputs),
        interface=Interface(inputs=(), outputs=()),
    )
    return Section(name, on_device, part, formats, fusion)


def _borrowed(graph: Graph, fusion: Fusion, layers: list[Layer]) -> list[Layer]:
    """Encodes of values of the host, done in an earlier section too: they cost a section nothing."""
    made = {layer.name for layer in layers}
    read = _unique(name for layer in layers for name in layer.inputs if name not in made)
    return [graph.by_name[name] for name in read if _is_port_encode(graph, fusion, name)]


def _is_port_encode(graph: Graph, fusion: Fusion, name: str) -> bool:
    layer = graph.by_name.get(name)
    return isinstance(layer, Encode) and layer.inputs[0] not in fusion.device


def _must_send(graph: Graph, fusion: Fusion, name: str, reader: Layer, made: set[str]) -> bool:
    """Whether a value leaves its section for `reader`."""
    borrows = reader.name in fusion.device and _is_port_encode(graph, fusion, name)
    return reader.name not in made and not borrows


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
