"""What an instruction touches, with the tag that a read expects and a write leaves.

See docs/spec/isa.md §8, rules 6 and 7.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..addressing import ExternalMap
from ..fields import FORMAT_NAMES, Section
from ..footprint import VECTOR, Access, external_map
from ..instructions import Instruction

VALUE, CONSTANT, PARTIAL = 1, 2, 3
"""Tags of vectors: a float32 map, a vector that `constants` loaded, a partial sum."""

_EXPONENT = 255
_VECTOR_TAGS = {"bias": CONSTANT, "scale": CONSTANT, "shift": CONSTANT, "partials": PARTIAL}


@dataclass(frozen=True)
class Touch:
    """Part of a memory that is read or written.

    Parameters
    ----------
    field : str
        Field of the instruction that asks for it.
    memory : str
        Name of the memory's book.
    part : function
        From an array with one item an address to the part, as a view.
    rows, columns : arrays, optional
        Which rows and columns of the part are touched, if not all.
    tag : int or uint16 array
        What a write leaves, or a read must find; 0 for a read that takes anything.
    """

    field: str
    memory: str
    part: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
    tag: int | npt.NDArray[np.uint16]
    rows: npt.NDArray[np.int64] | None = None
    columns: npt.NDArray[np.int64] | None = None

    def get(self, book: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Items of the touched addresses."""
        part = self.part(book)
        if self.rows is None or self.columns is None:
            return part
        picked: npt.NDArray[Any] = part[self.rows[:, None], self.columns]
        return picked

    def set(self, book: npt.NDArray[Any], value: Any) -> None:
        """Write to the touched addresses."""
        part = self.part(book)
        if self.rows is None or self.columns is None:
            part[...] = value
        else:
            part[self.rows[:, None], self.columns] = value


def touch(instruction: Instruction, access: Access) -> Touch:
    """Touch of an access on chip."""
    tag = access.format
    if access.memory == VECTOR:
        tag = _VECTOR_TAGS.get(access.field, VALUE if access.writes else 0)
        if instruction.name == "constants":
            tag = CONSTANT
    return Touch(access.field, access.memory, access.window, tag, access.rows, access.columns)


def external_touches(instruction: Instruction) -> Iterable[Touch]:
    """Touches of a `load` or `store` in external memory: mantissas or values, and exponents."""
    section = Section(instruction.section).name.lower()
    external = external_map(instruction)
    yield Touch("offset", section, external.values_of, value_tags(external))
    if external.encoded:
        yield Touch("exponents", section, external.exponents_of, exponent_tag(external))


def value_tags(external: ExternalMap) -> npt.NDArray[np.uint16]:
    """Tag of each byte of a block's mantissas or of a vector: format, and place in the block."""
    code = FORMAT_NAMES.index(external.format)
    return np.arange(external.element_bytes, dtype=np.uint16) + np.uint16(code << 8)


def exponent_tag(external: ExternalMap) -> int:
    """Tag of an exponent byte."""
    return FORMAT_NAMES.index(external.format) << 8 | _EXPONENT
