"""What an instruction touches: addresses on chip, and bytes in external memory.

See docs/spec/isa.md §2 and §8.

An `Access` is a strided window of one memory. The verifier keeps its books through it, and a device learns
from it how much memory a Program needs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .addressing import ExternalMap, last_address, strided
from .architecture import Architecture
from .fields import FLOAT32, FORMAT_NAMES, NONE, block_format
from .instructions import Instruction
from .program import Program

ACTIVATION, WEIGHT, VECTOR = "activation", "weight", "vector"


@dataclass(frozen=True)
class Access:
    """Addresses ``start + sum(i * step)`` of one memory.

    Parameters
    ----------
    field : str
        View or field of the instruction that asks for it.
    memory : str
        `activation`, `weight` or `vector`.
    start : int
        First address.
    shape, steps : tuple of int
        Extent and stride of each axis.
    writes : bool
        Written, or else read.
    format : int
        Number of the format of the blocks or panels; float32 for vectors.
    rows, columns : arrays of int, optional
        Which rows and columns of the shape are touched, if not all: those that taps of a window reach.
    """

    field: str
    memory: str
    start: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]
    writes: bool
    format: int
    rows: npt.NDArray[np.int64] | None = None
    columns: npt.NDArray[np.int64] | None = None

    @property
    def last(self) -> int:
        """Largest address."""
        return last_address(self.start, self.shape, self.steps)

    @property
    def count(self) -> int:
        """Elements of the shape."""
        return int(np.prod(self.shape, dtype=object))

    def window(self, memory: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View of the whole shape in a memory with one item an address."""
        return strided(memory, self.start, self.shape, self.steps)


def taps(instruction: Instruction, axis: str) -> npt.NDArray[np.int64]:
    """Stored rows (axis `y`) or columns (`x`) that some tap of some output reaches, ascending."""
    part = "rows" if axis == "y" else "columns"
    dilation = getattr(instruction, f"dilation_{axis}") if instruction.has(f"dilation_{axis}") else 1
    outputs = np.arange(getattr(instruction, f"out_{part}"), dtype=np.int64) * getattr(
        instruction, f"stride_{axis}"
    )
    kernel = np.arange(getattr(instruction, f"kernel_{part}"), dtype=np.int64) * dilation
    stored: int = getattr(instruction, f"in_{part}")
    reached = np.zeros(stored, bool)
    for offset in kernel:
        found = outputs + offset + getattr(instruction, f"in_{axis}")
        reached[found[(found >= 0) & (found < stored)]] = True
    return np.flatnonzero(reached)


def window_blocks(instruction: Instruction) -> int:
    """Input blocks of a pixel that a `convolve` or `pool` reads."""
    if instruction.name == "pool":
        return int(instruction.out_blocks)
    groups = -(-instruction.out_blocks // instruction.group_blocks) if instruction.group_blocks else 1
    return int(groups * instruction.in_blocks)


def sum_steps(instruction: Instruction) -> int:
    """Blocks that a `convolve` adds to each sum, padding included; also its panels for each output block."""
    return int(instruction.kernel_rows * instruction.kernel_columns * instruction.in_blocks)


def partial_count(instruction: Instruction) -> int:
    """Vectors of partial sums that a `convolve` resumes or suspends."""
    return int(instruction.out_rows * instruction.out_columns * instruction.out_blocks)


def external_map(instruction: Instruction) -> ExternalMap:
    """Map in external memory of a `load` or `store`."""
    view = "out" if instruction.name == "load" else "in"
    return ExternalMap(
        FORMAT_NAMES[getattr(instruction, f"{view}_format")],
        *_extent(instruction, view),
        instruction.offset,
        instruction.row_pitch,
        instruction.exponents,
        instruction.exponent_pitch,
        instruction.pixel_pitch,
    )


def panel_bytes(format_code: int) -> int:
    """Bytes of a panel in external memory: 32 blocks of mantissas, then 32 exponents."""
    return 32 * block_format(format_code).block_bytes + 32


def accesses(instruction: Instruction, architecture: Architecture) -> list[Access]:
    """All accesses to on-chip memories."""
    found = _FOOTPRINTS[instruction.name](instruction, architecture)
    return [access for access in found if access.count]


def _view(
    instruction: Instruction, name: str, shape: tuple[int, int, int], writes: bool = False
) -> Iterable[Access]:
    code = getattr(instruction, f"{name}_format")
    if code == NONE:
        return ()
    memory = VECTOR if code == FLOAT32 else ACTIVATION
    address, row, pixel = (getattr(instruction, f"{name}_{part}") for part in ("address", "row", "pixel"))
    return (Access(name, memory, address, shape, (row, pixel, 1), writes, code),)


def _window(instruction: Instruction) -> Iterable[Access]:
    rows, columns = taps(instruction, "y"), taps(instruction, "x")
    if not len(rows) or not len(columns):
        return ()
    code, blocks = instruction.in_format, window_blocks(instruction)
    shape = (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1, blocks)
    start = (
        instruction.in_address + int(rows[0]) * instruction.in_row + int(columns[0]) * instruction.in_pixel
    )
    steps = (instruction.in_row, instruction.in_pixel, 1)
    memory = VECTOR if code == FLOAT32 else ACTIVATION
    picks = (rows - rows[0], columns - columns[0])
    return (Access("in", memory, start, shape, steps, False, code, *picks),)


def _extent(instruction: Instruction, name: str) -> tuple[int, int, int]:
    rows, columns, blocks = (getattr(instruction, f"{name}_{part}") for part in ("rows", "columns", "blocks"))
    return rows, columns, blocks


def _vectors(field: str, start: int, count: int, writes: bool = False) -> Access:
    return Access(field, VECTOR, start, (count,), (1,), writes, FLOAT32)


def _panels(
    field: str, place: tuple[int, int], architecture: Architecture, code: int, writes: bool
) -> Iterable[Access]:
    start, count = place
    first = min(count, max(0, architecture.weight_panels - start))  # weight memory wraps
    yield Access(field, WEIGHT, start, (first,), (1,), writes, code)
    yield Access(field, WEIGHT, 0, (count - first,), (1,), writes, code)


def _affine(instruction: Instruction) -> Iterable[Access]:
    names = (["bias"] if instruction.has("bias") and instruction.has_bias else []) + (
        ["scale", "shift"] if instruction.has_scale else []
    )
    return [_vectors(name, getattr(instruction, name), instruction.out_blocks) for name in names]


def _nothing(instruction: Instruction, architecture: Architecture) -> Iterable[Access]:
    return ()


def _load(instruction: Instruction, architecture: Architecture) -> Iterable[Access]:
    return _view(instruction, "out", _extent(instruction, "out"), writes=True)


def _store(instruction: Instruction, architecture: Architecture) -> Iterable[Access]:
    return _view(instruction, "in", _extent(instruction, "in"))


def _weights(instruction: Instruction, architecture: Architecture) -> Iterable[Access]:
    place = (instruction.address, instruction.count)
    return _panels("address", place, architecture, instruction.format, writes=True)


def _constants(instruction: Instruction, architecture: Architecture) -> Iterable[Access]:
    return (_vectors("address", instruction.address, instruction.count, writes=True),)


def _convolve(instruction: Instruction, architecture: Architecture) -> Iterable[Access]:
    yield from _window(instruction)
    place = (instruction.weights, sum_steps(instruction) * instruction.out_blocks)
    yield from _panels("weights", place, architecture, instruction.weight_format, writes=False)
    partials = (instruction.partials, partial_count(instruction))
    if instruction.resume:
        yield _vectors("partials", *partials)
    if instruction.suspend:
        yield _vectors("partials", *partials, writes=True)
        return
    yield from _affine(instruction)
    yield from _view(instruction, "residual", _extent(instruction, "out"))
    yield from _view(instruction, "out", _extent(instruction, "out"), writes=True)


def _pool(instruction: Instruction, architecture: Architecture) -> Iterable[Access]:
    yield from _window(instruction)
    yield from _view(instruction, "out", _extent(instruction, "out"), writes=True)


def _map(instruction: Instruction, architecture: Architecture) -> Iterable[Access]:
    rows, columns, blocks = extent = _extent(instruction, "out")
    operand = (-(-rows // instruction.repeat_y), -(-columns // instruction.repeat_x), blocks)
    yield from _view(instruction, "a", operand)
    yield from _view(instruction, "b", extent)
    yield from _affine(instruction)
    yield from _view(instruction, "out", extent, writes=True)


_FOOTPRINTS = {
    "end": _nothing,
    "sync": _nothing,
    "load": _load,
    "store": _store,
    "weights": _weights,
    "constants": _constants,
    "convolve": _convolve,
    "pool": _pool,
    "map": _map,
}


def memory_sizes(program: Program) -> dict[str, int]:
    """Addresses of each on-chip memory up to the last one that the Program touches."""
    sizes = {ACTIVATION: 0, WEIGHT: 0, VECTOR: 0}
    for instruction in program.text:
        for access in accesses(instruction, program.architecture):
            sizes[access.memory] = max(sizes[access.memory], access.last + 1)
    return sizes
