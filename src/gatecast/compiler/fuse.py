"""Which layers of a quantised graph the device runs, and which ride in the epilogue of another.

A layer rides in an epilogue exactly when its operand from there passed no Encode and has one consumer.

Ref: docs/spec/numerics.md §§3, 5.
"""

from dataclasses import dataclass

from gatecast.graph import (
    Activation,
    Affine,
    AveragePool,
    BlockWeights,
    Chain,
    Concat,
    Convolution,
    Elementwise,
    Encode,
    Flatten,
    GlobalAveragePool,
    Graph,
    Layer,
    MatMul,
    MaxPool,
    Reshape,
    Resize,
    Slice,
    is_private,
)

_FIELD = 255
"""Most that a kernel, stride, or repeat of an instruction may be."""


@dataclass(frozen=True)
class Fusion:
    """What the device does.

    Parameters
    ----------
    device : frozenset of str
        Layers that run there.
    operands : dict of str to str
        For each layer that rides in an epilogue, the operand that it takes from there.
    """

    device: frozenset[str]
    operands: dict[str, str]


def fuse(graph: Graph) -> Fusion:
    """Walk the layers in order: each joins the chain of its operand, begins one, or is the host's."""
    device: set[str] = set()
    operands: dict[str, str] = {}
    chains: dict[str, Chain] = {}
    for layer in graph.layers:
        if isinstance(layer, Convolution | MatMul) and not isinstance(layer.weights, BlockWeights):
            continue
        if (operand := _operand_to_join(graph, layer, chains)) is not None:
            operands[layer.name] = operand
            chains[layer.name] = chains[operand]
        elif _can_begin(graph, layer, device):
            chains[layer.name] = Chain.begin(layer)
        else:
            continue
        device.add(layer.name)
    _drop_idle_encodes(graph, device)
    return Fusion(frozenset(device), {name: operand for name, operand in operands.items() if name in device})


def _operand_to_join(graph: Graph, layer: Layer, chains: dict[str, Chain]) -> str | None:
    for operand in reversed(layer.inputs):
        chain = chains.get(operand)
        if chain is None or not is_private(graph, operand, layer):
            continue
        others = [name for name in layer.inputs if name != operand]
        if not all(_is_encoded(graph, name) for name in others):
            continue
        if isinstance(layer, Elementwise) and graph.shapes[layer.name] != graph.shapes[operand]:
            continue
        if chain.join(layer):
            return operand
    return None


def _is_encoded(graph: Graph, name: str) -> bool:
    return isinstance(graph.by_name.get(name), Encode)


def _can_begin(graph: Graph, layer: Layer, device: set[str]) -> bool:
    """Whether the device can compute `layer` from encoded values, or from float32 ones that it kept."""
    encoded = all(_is_encoded(graph, name) for name in layer.inputs)
    kept = all(_is_encoded(graph, name) or name in device for name in layer.inputs)
    shapes = [graph.shapes[name] for name in layer.inputs]
    match layer:
        case Encode():
            return True
        case Convolution() | MatMul() | GlobalAveragePool() | Affine():
            return encoded
        case MaxPool():
            return encoded and layer.dilation == (1, 1) and max(layer.stride) <= _FIELD
        case AveragePool():
            return encoded and max(layer.stride) <= _FIELD
        case Elementwise():
            multiplies = layer.kind == "multiply"  # which takes no value that was kept in float32
            return (encoded and not (multiplies and len(shapes) > 2)) or (kept and not multiplies)
        case Activation():
            simple = layer.kind in ("relu", "clip")
            return (encoded and layer.kind not in ("sigmoid", "silu")) or (kept and simple)
        case Concat():
            return encoded and layer.axis in (-1, len(shapes[0]) - 1)
        case Resize():
            repeats = [out // have for out, have in zip(layer.size, shapes[0], strict=False)]
            return encoded and layer.mode == "nearest" and max(repeats) <= _FIELD
        case Slice():
            return encoded and len(shapes[0]) == 3 and layer.steps[2] == 1 and max(layer.steps) <= _FIELD
        case Flatten() | Reshape():
            return encoded and _only_renames(shapes[0], graph.shapes[layer.name])
    return False


def _only_renames(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a reshape keeps the channels of one pixel where they are."""
    return before[-1] == after[-1] and all(size == 1 for size in (*before[:-1], *after[:-1]))


def _drop_idle_encodes(graph: Graph, device: set[str]) -> None:
    """An Encode of a value of the host is the host's too, unless a layer of the device reads it."""
    for layer in graph.layers:
        if isinstance(layer, Encode) and layer.inputs[0] not in device:
            if not any(reader.name in device for reader in graph.consumers[layer.name]):
                device.discard(layer.name)
