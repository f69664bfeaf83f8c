"""The graph while it grows from an ONNX file: layers, shapes, and values brought into another order."""

import math
from collections.abc import Sequence
from dataclasses import fields
from itertools import permutations
from typing import Any

import numpy as np

from gatecast.errors import FileError
from gatecast.graph import (
    Affine,
    Elementwise,
    Flatten,
    GlobalAveragePool,
    Input,
    Layer,
    Pad,
    Reshape,
    Shape,
    Transpose,
    infer_shape,
)

from .values import BATCH, AnyConstant, Axes, ChannelNorm, Repeated, SpaceSum, Value, View

MAP_ORDER = (2, 3, 1)
"""Axes of an NCHW tensor in the order (rows, columns, channels)."""


class NotSupportedError(Exception):
    """A node asks for what Gatecast has no layer for; the importer collects these."""


class Network:
    """Layers made so far, by name, in order.

    Parameters
    ----------
    batch : int
        Size that the batch has in constants of the file; 1 where it is symbolic.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.inputs: list[Input] = []
        self.layers: dict[str, Layer] = {}
        self.shapes: dict[str, Shape] = {}
        self.whole: set[str] = set()
        self._arranged: dict[tuple[View, tuple[int, ...]], View] = {}

    def unique(self, name: str) -> str:
        """Return `name`, with a number where a value already has it."""
        candidate, count = name, 1
        while candidate in self.shapes:
            count += 1
            candidate = f"{name}_{count}"
        return candidate

    def add_input(self, name: str, shape: Shape) -> None:
        """Add a value that comes from outside."""
        self.inputs.append(Input(name, shape))
        self.shapes[name] = shape

    def add(self, layer: Layer, order: Sequence[int] | None = None) -> View:
        """Add `layer` and return its value as a tensor whose axes in `order` are the inner axes.

        Without `order`, a map is an NCHW tensor and any other value has its batch in front.
        """
        _check_finite(layer)
        shape = infer_shape(layer, [self.shapes[name] for name in layer.inputs])
        self.layers[layer.name] = layer
        self.shapes[layer.name] = shape
        return View(layer.name, axes_of(shape, natural(len(shape)) if order is None else order))

    def dims(self, view: View) -> tuple[int, ...]:
        """Shape of the ONNX tensor."""
        return tuple(math.prod(self._size(view, axis) for axis in group) for group in view.axes)

    def _size(self, view: View, axis: int) -> int:
        return self.batch if axis == BATCH else self.shapes[view.value][axis]

    def view(self, value: Value | None) -> View:
        """Return `value` as a view, with a layer where it was only expected to become one."""
        if isinstance(value, View):
            return value
        if isinstance(value, SpaceSum):
            count = math.prod(self.shapes[value.source.value][:2])
            return self.space_mean(value, f"{value.source.value}.sum", float(count))
        if isinstance(value, AnyConstant):
            raise NotSupportedError(f"reads constant {value.name} where it should read a computed value")
        if isinstance(value, ChannelNorm) and value.power == 0:
            source = value.source
            square = Elementwise(
                name=self.unique(value.name), inputs=(source.value, source.value), kind="multiply"
            )
            return View(self.add(square).value, source.axes)
        if isinstance(value, Repeated):
            raise NotSupportedError("reads values repeated along an axis")
        raise NotSupportedError("uses a norm in another way than to divide by it")

    def space_mean(self, total: SpaceSum, name: str, factor: float) -> View:
        """Return the mean of `total` over the map, times `factor`."""
        pool = GlobalAveragePool(name=self.unique(name), inputs=(total.source.value,))
        mean = View(self.add(pool).value, total.axes)
        if factor == 1.0:
            return mean
        channels = self.shapes[mean.value][-1]
        with np.errstate(over="ignore"):
            scale = np.full(channels, factor, np.float64).astype(np.float32)
        return self.chain(mean, Affine, f"{name}.scaled", scale=scale, shift=np.zeros(channels, np.float32))

    def chain(self, view: View, kind: type[Layer], name: str, /, **fields: Any) -> View:
        """Add a layer of one input that keeps its shape; the result has the axes of `view`."""
        layer = kind(name=self.unique(name), inputs=(view.value,), **fields)
        return View(self.add(layer).value, view.axes)

    def map(self, value: Value | None) -> View:
        """Return a tensor of four axes as a map (rows, columns, channels)."""
        view = self.view(value)
        if len(view.axes) != 4:
            raise NotSupportedError(
                f"reads a tensor of {len(view.axes)} axes; only N, C, H, W are known here"
            )
        return self.arranged(view, MAP_ORDER)

    def arrange(self, view: View) -> tuple[View, tuple[int, ...]]:
        """Return the value with one ONNX axis for each inner axis, and those axes, as it lies if possible."""
        rank = len(view.axes)
        usual = natural(rank - 1)
        orders = permutations(range(1, rank)) if rank <= 5 else ()
        for order in (usual, *orders):
            if self._lies_so(view, order):
                return view, tuple(order)
        return self.arranged(view, usual), usual

    def _lies_so(self, view: View, order: Sequence[int]) -> bool:
        dims = self.dims(view)
        shape = tuple(dims[axis] for axis in order)
        axes = [axis for group in order for axis in view.axes[group]]
        return (
            view.axes[:1] == ((BATCH,),)
            and BATCH not in axes
            and axes == sorted(axes)
            and shape == self.shapes[view.value]
        )

    def arranged(self, view: View, order: Sequence[int]) -> View:
        """Return a value whose inner axes are the tensor's axes in `order`, by layers where needed."""
        if self._lies_so(view, order):
            return view
        key = (view, tuple(order))
        if key not in self._arranged:
            self._arranged[key] = self._rearrange(view, order)
        return self._arranged[key]

    def _rearrange(self, view: View, order: Sequence[int]) -> View:
        axes = [axis for group in order for axis in view.axes[group]]
        if view.axes[:1] != ((BATCH,),) or BATCH in axes:
            raise NotSupportedError("mixes the batch with another dimension")
        dims = self.dims(view)
        target = tuple(dims[axis] for axis in order)
        shape = self.shapes[view.value]
        name = view.value
        if len(target) == 1 and len(shape) == 3 and axes == [a for a in (2, 0, 1) if shape[a] > 1]:
            return self.add(Flatten(name=self.unique(f"{name}.flat"), inputs=(name,)), order)
        if axes != sorted(axes):
            whole = (*axes, *(axis for axis in range(len(shape)) if shape[axis] == 1))
            name = self.add(Transpose(name=self.unique(f"{name}.turned"), inputs=(name,), order=whole)).value
        if self.shapes[name] != target:
            name = self.add(Reshape(name=self.unique(f"{name}.reshaped"), inputs=(name,), shape=target)).value
        return View(name, axes_of(target, order))

    def reshaped(self, view: View, target: Sequence[int], name: str) -> View:
        """Return the tensor with shape `target`, as a view if its axes only merge or part."""
        dims = self.dims(view)
        if math.prod(dims) != math.prod(target):
            raise NotSupportedError(f"reshapes {list(dims)} to {list(target)}")
        axes = self._regrouped(view, target)
        if axes is not None:
            return View(view.value, axes)
        if target[0] != self.batch:
            raise NotSupportedError("mixes the batch with another dimension")
        straight = self.arranged(view, range(1, len(view.axes)))
        shape = tuple(target[1:])
        layer = Reshape(name=self.unique(name), inputs=(straight.value,), shape=shape)
        return self.add(layer, range(1, len(target)))

    def _regrouped(self, view: View, target: Sequence[int]) -> Axes | None:
        rest = [axis for group in view.axes for axis in group]
        groups: list[tuple[int, ...]] = []
        for size in target:
            group: list[int] = []
            if size == 1 and rest[:1] == [BATCH] and self.batch == 1:
                group.append(rest.pop(0))
            product = 1
            while product < size and rest:
                group.append(rest.pop(0))
                product *= self._size(view, group[-1])
            if product != size:
                return None
            groups.append(tuple(group))
        return None if rest else tuple(groups)


def _check_finite(layer: Layer) -> None:
    """Refuse numbers of a layer that overflowed on the way; weights were checked, padding may be infinite."""
    if isinstance(layer, Pad):
        return
    for field in fields(layer):
        value = getattr(layer, field.name)
        small = isinstance(value, float) or (isinstance(value, np.ndarray) and value.ndim == 1)
        if small and not np.isfinite(value).all():
            raise FileError(f"Numbers of {layer.name} ({field.name}) must be finite")


def natural(rank: int) -> tuple[int, ...]:
    """Axes of the ONNX tensor of a value of `rank` in the order of its inner axes."""
    return MAP_ORDER if rank == 3 else tuple(range(1, rank + 1))


def axes_of(shape: Shape, order: Sequence[int]) -> Axes:
    """Axes of a view of a value of `shape` whose inner axis i is the tensor's axis ``order[i]``."""
    groups: list[tuple[int, ...]] = [()] * (len(shape) + 1)
    groups[0] = (BATCH,)
    for inner, axis in enumerate(order):
        groups[axis] = (inner,) if shape[inner] > 1 else ()
    return tuple(groups)
