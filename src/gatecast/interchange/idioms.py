"""Layers that exporters write in several nodes, joined again: each rule looks at one layer and what it reads.

A rule takes over a layer that nothing else reads. A layer that a file of our own marks as whole is never
taken over, so that what was exported comes back as it was.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from gatecast.graph import (
    Activation,
    ActivationKind,
    Affine,
    AveragePool,
    Convolution,
    Elementwise,
    L2Norm,
    Layer,
    MatMul,
    MaxPool,
    Pad,
    Resize,
)

Kind = TypeVar("Kind", bound=Layer)


class Layers:
    """The layers so far, with what reads each."""

    def __init__(self, layers: Mapping[str, Layer], whole: set[str], outputs: set[str]) -> None:
        self.by_name = dict(layers)
        self.whole = whole
        self._readers: dict[str, int] = dict.fromkeys(outputs, 1)
        for layer in layers.values():
            for name in layer.inputs:
                self._readers[name] = self._readers.get(name, 0) + 1

    def part(self, name: str, kind: type[Kind], readers: int = 1) -> Kind | None:
        """Return the layer called `name` if it is of `kind`, no whole layer, and has so many readers."""
        layer = self.by_name.get(name)
        free = name not in self.whole and self._readers.get(name) == readers
        return layer if free and isinstance(layer, kind) else None

    def join(self, layer: Layer, parts: tuple[Layer, ...]) -> None:
        """Put `layer` in the place of the one with its name; `parts` are gone."""
        old = self.by_name[layer.name]
        for part in (old, *parts):
            for name in part.inputs:
                self._readers[name] -= 1
        for part in parts:
            del self.by_name[part.name]
        for name in layer.inputs:
            self._readers[name] += 1
        self.by_name[layer.name] = layer


@dataclass(frozen=True)
class Joined:
    """A layer that stands for itself and `parts`."""

    layer: Layer
    parts: tuple[Layer, ...]


Rule = Callable[[Layer, Layers], Joined | None]


def join_idioms(layers: Mapping[str, Layer], whole: set[str], outputs: set[str]) -> tuple[Layer, ...]:
    """Return the layers with every idiom joined; the later name stays."""
    graph = Layers(layers, whole, outputs)
    for name in layers:
        changed = name in graph.by_name
        while changed:
            joined = next(filter(None, (rule(graph.by_name[name], graph) for rule in RULES)), None)
            changed = joined is not None
            if joined is not None:
                graph.join(joined.layer, joined.parts)
    return tuple(graph.by_name.values())


def alive(layers: Mapping[str, Layer], whole: set[str], outputs: Iterable[str]) -> dict[str, Layer]:
    """Return the layers that the outputs depend on, and whole ones."""
    wanted = {*outputs, *whole}
    kept = {}
    for name, layer in reversed(list(layers.items())):
        if name in wanted:
            kept[name] = layer
            wanted.update(layer.inputs)
    return dict(reversed(kept.items()))


def bias_of_product(layer: Layer, graph: Layers) -> Joined | None:
    """MatMul or Conv, then Add of a constant."""
    if not isinstance(layer, Affine) or not _only_shifts(layer):
        return None
    first = graph.part(layer.inputs[0], MatMul) or graph.part(layer.inputs[0], Convolution)
    if first is None or first.bias is not None:
        return None
    return Joined(replace(first, name=layer.name, bias=layer.shift), (first,))


def scale_then_shift(layer: Layer, graph: Layers) -> Joined | None:
    """Mul, then Add, each of a constant for each channel."""
    if not isinstance(layer, Affine) or not _only_shifts(layer):
        return None
    first = graph.part(layer.inputs[0], Affine)
    if first is None or first.shift.any():
        return None
    return Joined(replace(layer, inputs=first.inputs, scale=first.scale), (first,))


def _only_shifts(layer: Affine) -> bool:
    return bool((layer.scale == 1).all())


def pad_of_convolution(layer: Layer, graph: Layers) -> Joined | None:
    """Pad with zeros, then Conv."""
    if not isinstance(layer, Convolution):
        return None
    pad = graph.part(layer.inputs[0], Pad)
    if pad is None or pad.value != 0:
        return None
    return Joined(replace(layer, inputs=pad.inputs, pads=_sum(layer.pads, pad.pads)), (pad,))


def pad_of_pool(layer: Layer, graph: Layers) -> Joined | None:
    """Pad that cannot win a maximum, or that a mean counts, then a pool."""
    if not isinstance(layer, MaxPool | AveragePool):
        return None
    pad = graph.part(layer.inputs[0], Pad)
    if pad is None or (layer.ceil and any(pad.pads)):
        return None
    pads = _sum(layer.pads, pad.pads)
    dilation = layer.dilation if isinstance(layer, MaxPool) else (1, 1)
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel, dilation, strict=True)]
    if max(pads[0], pads[2]) >= spans[0] or max(pads[1], pads[3]) >= spans[1]:
        return None
    if isinstance(layer, MaxPool):
        source = graph.by_name.get(pad.inputs[0])
        lowest = pad.value <= float(np.finfo(np.float32).min)
        if not lowest and not (pad.value == 0 and _never_negative(source)):
            return None
        return Joined(replace(layer, inputs=pad.inputs, pads=pads), (pad,))
    if pad.value != 0 or (any(layer.pads) and not layer.count_pads):
        return None
    return Joined(replace(layer, inputs=pad.inputs, pads=pads, count_pads=True), (pad,))


def _never_negative(layer: Layer | None) -> bool:
    return isinstance(layer, Activation) and (
        layer.kind in ("relu", "sigmoid", "hard_sigmoid") or (layer.kind == "clip" and layer.low >= 0)
    )


def _sum(left: tuple[int, int, int, int], right: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] + right[3]


def hard_sigmoid_of_clip(layer: Layer, graph: Layers) -> Joined | None:
    """``clip(x + 3, 0, 6) / 6``, also with the division after the product ``x * clip(x + 3, 0, 6)``."""
    if not isinstance(layer, Affine) or layer.shift.any() or layer.name in graph.whole:
        return None
    clip = graph.part(layer.inputs[0], Activation)
    if clip is None or clip.kind != "clip" or clip.low != 0 or not (layer.scale == layer.scale[0]).all():
        return None
    shift = graph.part(clip.inputs[0], Affine)
    factor = float(layer.scale[0])
    if shift is None or not _only_shifts(shift) or not (shift.shift == shift.shift[0]).all():
        return None
    if abs(clip.high * factor - 1) > 1e-6:
        return None
    beta = _float32(float(shift.shift[0]) / clip.high)
    sigmoid = Activation(
        name=layer.name, inputs=shift.inputs, kind="hard_sigmoid", low=_float32(1 / clip.high), high=beta
    )
    return Joined(sigmoid, (shift, clip))


def hard_swish_of_clip(layer: Layer, graph: Layers) -> Joined | None:
    """``x * clip(x + 3, 0, 6) / 6`` with the division last."""
    if not isinstance(layer, Affine) or layer.shift.any() or not (layer.scale == layer.scale[0]).all():
        return None
    product = graph.part(layer.inputs[0], Elementwise)
    if product is None or product.kind != "multiply" or len(product.inputs) != 2:
        return None
    for source, other in (product.inputs, product.inputs[::-1]):
        clip = graph.part(other, Activation)
        if clip is None or clip.kind != "clip" or clip.low != 0:
            continue
        shift = graph.part(clip.inputs[0], Affine)
        if shift is None or shift.inputs != (source,) or not _only_shifts(shift):
            continue
        if abs(clip.high * float(layer.scale[0]) - 1) > 1e-6 or not (shift.shift == shift.shift[0]).all():
            continue
        swish = Activation(
            name=layer.name,
            inputs=(source,),
            kind="hard_swish",
            low=_float32(1 / clip.high),
            high=_float32(float(shift.shift[0]) / clip.high),
        )
        return Joined(swish, (shift, clip, product))
    return None


def product_with_own_sigmoid(layer: Layer, graph: Layers) -> Joined | None:
    """``x * sigmoid(x)`` and ``x * hard_sigmoid(x)``."""
    if not isinstance(layer, Elementwise) or layer.kind != "multiply" or len(layer.inputs) != 2:
        return None
    for source, other in (layer.inputs, layer.inputs[::-1]):
        gate = graph.part(other, Activation)
        if gate is None or gate.inputs != (source,) or gate.kind not in ("sigmoid", "hard_sigmoid"):
            continue
        kind: ActivationKind = "silu" if gate.kind == "sigmoid" else "hard_swish"
        return Joined(replace(gate, name=layer.name, kind=kind), (gate,))
    return None


def chain_of_two_operands(layer: Layer, graph: Layers) -> Joined | None:
    """A whole layer of three or more operands, written two at a time."""
    if not isinstance(layer, Elementwise) or layer.name not in graph.whole:
        return None
    first = graph.part(layer.inputs[0], Elementwise)
    if first is None or first.kind != layer.kind:
        return None
    return Joined(replace(layer, inputs=(*first.inputs, *layer.inputs[1:])), (first,))


def resize_in_two_steps(layer: Layer, graph: Layers) -> Joined | None:
    """Rows repeated, then columns."""
    if not isinstance(layer, Resize) or layer.mode != "nearest" or layer.name in graph.whole:
        return None
    first = graph.part(layer.inputs[0], Resize)
    if first is None or first.mode != "nearest":
        return None
    return Joined(replace(layer, inputs=first.inputs), (first,))


def scale_of_norm(layer: Layer, graph: Layers) -> Joined | None:
    """L2 normalisation, then Mul of a constant for each channel."""
    if not isinstance(layer, Affine) or layer.shift.any():
        return None
    norm = graph.part(layer.inputs[0], L2Norm)
    if norm is None or norm.scale is not None:
        return None
    return Joined(replace(norm, name=layer.name, scale=layer.scale), (norm,))


def _float32(number: float) -> float:
    return float(np.float32(number))


RULES: tuple[Rule, ...] = (
    bias_of_product,
    scale_then_shift,
    pad_of_convolution,
    pad_of_pool,
    hard_sigmoid_of_clip,
    hard_swish_of_clip,
    product_with_own_sigmoid,
    chain_of_two_operands,
    resize_in_two_steps,
    scale_of_norm,
)
"""All rules; the first that fits is taken."""
