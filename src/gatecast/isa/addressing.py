"""Where the blocks of a map lie, on chip and in external memory. See docs/spec/isa.md §3.

Maps are strided windows of a memory: these functions make them NumPy views, so that a device copies through
them and the verifier keeps its books through them, with one piece of address arithmetic.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..numerics import FORMATS

FLOAT32_BYTES = 128
"""Bytes of a vector of 32 float32."""

_Scalar = TypeVar("_Scalar", bound=np.generic)


def strided(
    memory: npt.NDArray[_Scalar], start: int, shape: tuple[int, ...], steps: tuple[int, ...]
) -> npt.NDArray[_Scalar]:
    """View ``[*shape, *memory.shape[1:]]`` of `memory`, from `start`, with `steps` in its first axis.

    ValueError if the view leaves the memory; what it touches is ``start + sum(i * step)``.
    """
    size = memory.strides[0]
    return np.ndarray(
        (*shape, *memory.shape[1:]),
        memory.dtype,
        memory.data,
        start * size,
        (*(step * size for step in steps), *memory.strides[1:]),
    )


def last_address(start: int, shape: tuple[int, ...], steps: tuple[int, ...]) -> int:
    """Largest address that `strided` touches."""
    return start + sum((size - 1) * step for size, step in zip(shape, steps, strict=True))


def element_bytes(format_name: str) -> int:
    """Bytes of one block's mantissas, or of one vector, in external memory."""
    return FLOAT32_BYTES if format_name == "float32" else FORMATS[format_name].block_bytes


@dataclass(frozen=True)
class ExternalMap:
    """A feature map in a section of external memory: a plane of mantissas or values, one of exponents.

    Offsets and pitches are bytes; `pixel_pitch` is blocks. A float32 map has no exponents.
    """

    format: str
    rows: int
    columns: int
    blocks: int
    offset: int
    row_pitch: int
    exponents: int
    exponent_pitch: int
    pixel_pitch: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, blocks."""
        return self.rows, self.columns, self.blocks

    @property
    def element_bytes(self) -> int:
        """Bytes of one block's mantissas, or of one vector."""
        return element_bytes(self.format)

    @property
    def encoded(self) -> bool:
        """Whether there is a plane of exponents."""
        return self.format != "float32"

    @property
    def end(self) -> int:
        """First byte after the map."""
        ends = [last_address(*self._values())]
        if self.encoded:
            ends.append(last_address(*self._exponents()))
        return max(ends) + 1

    def values_of(self, section: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Mantissas or float32 bytes, ``[rows, columns, blocks, bytes]``, of a section of one item a byte."""
        return strided(section, *self._values())

    def exponents_of(self, section: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Exponent bytes, ``[rows, columns, blocks]``, of a section of one item a byte."""
        return strided(section, *self._exponents())

    def _values(self) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        size = self.element_bytes
        return self.offset, (*self.shape, size), (self.row_pitch, self.pixel_pitch * size, size, 1)

    def _exponents(self) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        return self.exponents, self.shape, (self.exponent_pitch, self.pixel_pitch, 1)
