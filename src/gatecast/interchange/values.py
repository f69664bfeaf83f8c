"""What a tensor of an ONNX file is while it is read: a constant, or a view of a value of the graph.

A view says for each axis of the ONNX tensor which axes of the inner value (rows, columns, channels of one
image) it runs over. So Transpose, Flatten, Squeeze and most Reshapes cost nothing: they only change the view,
and a layer is made where a consumer needs the values in another order than they lie in.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gatecast.numerics import Format

Array = npt.NDArray[np.generic]

BATCH = -1
"""The axis of a view that counts images."""

Axes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor whose values are in the file, or follow from it; `name` is the initializer's for messages."""

    name: str
    array: npt.NDArray[np.generic]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.array.shape


@dataclass(frozen=True, eq=False)
class Mantissas:
    """int8 mantissas that the file casts to `dtype`; as float32, times powers of two, they make blocks."""

    name: str
    mantissas: npt.NDArray[np.int8]
    format: Format
    dtype: type[np.float32 | np.int32]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.mantissas.shape

    @property
    def array(self) -> npt.NDArray[np.generic]:
        """The same values as the tensor that the file means."""
        return self.mantissas.astype(self.dtype)


@dataclass(frozen=True, eq=False)
class BlockConstant:
    """A constant of mantissas times powers of two: value i is ``mantissas[i] * 2**shifts[i]``."""

    name: str
    mantissas: npt.NDArray[np.int8]
    shifts: npt.NDArray[np.int16]
    format: Format

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.mantissas.shape

    @property
    def array(self) -> npt.NDArray[np.float32]:
        """The values as float32, exactly."""
        return np.ldexp(self.mantissas.astype(np.float32), self.shifts)


AnyConstant = Constant | Mantissas | BlockConstant


@dataclass(frozen=True)
class View:
    """A value of the graph as an ONNX tensor.

    Parameters
    ----------
    value : str
    axes : tuple of tuple of int
        For each axis of the tensor the inner axes that it runs over, the first one slowest; `BATCH` is the
        batch. Inner axes of size 1 are left out: ``()`` is an axis of size 1.
    """

    value: str
    axes: Axes


@dataclass(frozen=True)
class SpaceSum:
    """Sum over the rows and columns of a map: with a factor it becomes a global average pool."""

    source: View
    axes: Axes


@dataclass(frozen=True)
class ChannelNorm:
    """``max(sum of squares over the channels, epsilon) ** power`` of `source`, waiting for the division.

    With power 0 it is the squares that are not yet summed, made by the node called `name`.
    """

    source: View
    power: float = 1.0
    epsilon: float = 0.0
    name: str = ""


@dataclass(frozen=True)
class Repeated:
    """A tensor whose axis `axis`, of size 1 in `source`, is repeated: it becomes a resize when axes merge."""

    source: View
    axis: int
    count: int


Value = AnyConstant | View | SpaceSum | ChannelNorm | Repeated
