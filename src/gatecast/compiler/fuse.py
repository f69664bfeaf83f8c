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
)

_FIELD = 255
"""Most that a kernel, stride, or repeat of an instruction may be."""

_AFFINE, _RESIDUAL, _ACTIVATION, _ENCODE = 1, 2, 3, 4
"""Steps of an epilogue in their order."""


@dataclass
class _Chain:
    """Layers computed as one operation so far: the first, and the last step of the epilogue."""

    root: Layer
    step: int = 0
    scaled: bool = False


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
    chains: dict[str, _Chain] = {}
    for layer in graph.layers:
        if isinstance(layer, Convolution | MatMul) and not isinstance(layer.weights, BlockWeights):
            continue
        if (operand := _operand_to_join(graph, layer, chains)) is not None:
            operands[layer.name] = operand
            chains[layer.name] = chains[operand]
        elif _can_begin(graph, layer, device):
            chains[layer.name] = _Chain(layer, step=_AFFINE if isinstance(layer, Affine) else 0)
            if isinstance(layer, Affine | Activation):
                chains[layer.name].step = _AFFINE if isinstance(layer, Affine) else _ACTIVATION
            if isinstance(layer, Encode):
                chains[layer.name].step = _ENCODE
        else:
            continue
        device.add(layer.name)
    _drop_idle_encodes(graph, device)
    return Fusion(frozenset(device), {name: operand for name, operand in operands.items() if name in device})


def _operand_to_join(graph: Graph, layer: Layer, chains: dict[str, _Chain]) -> str | None:
    for operand in reversed(layer.inputs):
        chain = chains.get(operand)
        private = len(graph.consumers[operand]) == 1 and layer.inputs.count(operand) == 1
        if chain is None or not private or operand in graph.outputs:
            continue
        others = [name for name in layer.inputs if name != operand]
        if all(_is_encoded(graph, name) for name in others) and _join(graph, layer, operand, chain):
            return operand
    return None


def _join(graph: Graph, layer: Layer, operand: str, chain: _Chain) -> bool:
    """Take `layer` into `chain` if one instruction can compute it there."""
    convolves = isinstance(chain.root, Convolution | MatMul)
    computes = convolves or isinstance(chain.root, Elementwise | Affine | Activation)
    match layer:
        case Encode():
            step = _ENCODE
        case Affine() if computes:
            step = _AFFINE
        case Elementwise(kind="add", inputs=(_, _)) if convolves:
            step = _RESIDUAL
            if graph.shapes[layer.name] != graph.shapes[operand]:
                return False
        case Activation(kind="relu" | "clip") if computes:
            step = _ACTIVATION
        case Activation(kind="leaky_relu" | "hard_sigmoid" | "hard_swish") if computes and not convolves:
            if chain.scaled and isinstance(chain.root, Elementwise) and chain.root.kind == "multiply":
                return False
            step = _ACTIVATION
        case _:
            return False
    if step <= chain.step:
        return False
    chain.step = step
    chain.scaled |= step == _AFFINE
    return True


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
