"""Cycles of one instruction by itself: from the sizes of an Architecture and the loops of the NPU's units.

docs/guides/rtl.md says how these units work, and what is left out here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
import numpy.typing as npt

from gatecast.isa import (
    Activation,
    Architecture,
    Instruction,
    MapOperation,
    PoolOperation,
    external_map,
    panel_bytes,
)
from gatecast.numerics import BLOCK_SIZE

from .tile_cycles import OPERATION, convolve_cycles, products_cycles, tail_cycles

BEAT_BYTES = 16
PIECE_BYTES = 32
"""Most bytes that a unit asks of external memory at once."""

_FLOAT32 = 1  # number of the format
_READ = 2  # cycles from a request to on-chip memory to its answer
_WORD_BYTES = 16  # of vector memory
_OPERANDS = 7  # cycles from a unit's first request for an operand to its first row
_PITCH_BITS = 24  # of the product that `load` and `store` make first

Starts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cost:
    """What an instruction takes when it has all tokens and memory to itself.

    Parameters
    ----------
    before, after : float
        Cycles before its first and after its last beat of external memory; `before` is all where there is none.
    beats : int
        Of external memory.
    pace : float
        Cycles from a beat to the next that the unit itself asks for.
    reads : bool
        The beats are reads, so the last one's answer comes a latency later.
    """

    before: float
    beats: int = 0
    after: float = 0
    pace: float = 1.0
    reads: bool = False


def cost(instruction: Instruction, sizes: Architecture) -> Cost:
    """Return what an instruction takes on an Architecture that says how many lanes it has."""
    return _COSTS[instruction.name](instruction, sizes)


def _nothing(instruction: Instruction, sizes: Architecture) -> Cost:
    return Cost(0)


def _load(instruction: Instruction, sizes: Architecture) -> Cost:
    """Of each block its mantissas, then its exponent; of each vector its quarters."""
    values, exponents = _planes(instruction)
    vector = instruction.out_format == _FLOAT32
    beats = _cut(values, external_map(instruction).element_bytes, PIECE_BYTES) + len(exponents)
    return Cost(products_cycles(_PITCH_BITS), beats, after=6, pace=2 if vector else 1, reads=True)


def _store(instruction: Instruction, sizes: Architecture) -> Cost:
    """Read a block, write its beats, then its exponent; then the next block."""
    values, exponents = _planes(instruction)
    before = products_cycles(_PITCH_BITS) + _READ + 2
    if instruction.in_format == _FLOAT32:
        beats = len(values) * 128 // _WORD_BYTES
        return Cost(before, beats, after=2, pace=_READ + 2)
    mantissas = int(_spans(values, external_map(instruction).element_bytes).sum())
    beats = mantissas + len(exponents)
    return Cost(before, beats, after=2, pace=(mantissas + len(values) * (_READ + 3)) / beats)


def _planes(instruction: Instruction) -> tuple[Starts, Starts]:
    """First bytes of the mantissas or values, and bytes of the exponents, of each block."""
    place = external_map(instruction)
    y, x, c = np.ogrid[: place.rows, : place.columns, : place.blocks]
    pixel = x * place.pixel_pitch + c
    values = place.offset + y * place.row_pitch + pixel * place.element_bytes
    exponents = place.exponents + y * place.exponent_pitch + pixel
    return values.ravel(), exponents.ravel() if place.encoded else exponents.ravel()[:0]


def _weights(instruction: Instruction, sizes: Architecture) -> Cost:
    """Of each panel its exponents, then the block of each lane."""
    whole = panel_bytes(instruction.format)
    block = whole // BLOCK_SIZE - 1
    panels = instruction.offset + np.arange(instruction.count, dtype=np.int64) * whole
    lanes = (panels[:, None] + np.arange(BLOCK_SIZE) * block).ravel()
    beats = int(_spans(lanes, block).sum() + _spans(panels + BLOCK_SIZE * block, BLOCK_SIZE).sum())
    return Cost(1, beats, after=6, reads=True)


def _constants(instruction: Instruction, sizes: Architecture) -> Cost:
    vectors = instruction.offset + np.arange(instruction.count, dtype=np.int64) * 128
    return Cost(1, _cut(vectors, 128, PIECE_BYTES), after=6, reads=True)


def _cut(starts: Starts, size: int, most: int) -> int:
    """Beats of strings of `size` bytes that are asked for in pieces."""
    return sum(int(_spans(starts + first, min(most, size - first)).sum()) for first in range(0, size, most))


def _spans(starts: Starts, size: int) -> Starts:
    """Beats that strings of `size` bytes touch."""
    return (starts % BEAT_BYTES + size - 1) // BEAT_BYTES + 1


def _convolve(instruction: Instruction, sizes: Architecture) -> Cost:
    return Cost(convolve_cycles(instruction, sizes))


def _pool(instruction: Instruction, sizes: Architecture) -> Cost:
    """A pass for each tap inside the map, and one for the factor."""
    inside = _inside(instruction, "y", "rows") * _inside(instruction, "x", "columns")
    factor = prod((instruction.out_rows, instruction.out_columns)) * (
        instruction.operation == PoolOperation.AVERAGE
    )
    return _vector(instruction, sizes, (inside + factor) * instruction.out_blocks, 0)


def _inside(instruction: Instruction, axis: str, part: str) -> int:
    """Taps inside the map along one axis, of all outputs along it."""
    first = getattr(instruction, f"in_{axis}") + np.arange(getattr(instruction, f"out_{part}")) * getattr(
        instruction, f"stride_{axis}"
    )
    last = first + getattr(instruction, f"kernel_{part}")
    return int((np.minimum(last, getattr(instruction, f"in_{part}")) - np.maximum(first, 0)).sum())


def _map(instruction: Instruction, sizes: Architecture) -> Cost:
    """A pass for each operand and each operation behind."""
    activation = Activation(instruction.activation)
    passes = 1 + (instruction.operation != MapOperation.COPY) + 2 * instruction.has_scale
    passes += {Activation.LEAKY_RELU: 2, Activation.HARD_SIGMOID: 2, Activation.HARD_SWISH: 3}.get(
        activation, 0
    )
    blocks = prod((instruction.out_rows, instruction.out_columns, instruction.out_blocks))
    return _vector(instruction, sizes, passes * blocks, blocks)


def _vector(instruction: Instruction, sizes: Architecture, passes: int, blocks: int) -> Cost:
    """`passes` of all blocks together; `blocks` in the making limit how fast single passes follow each other."""
    rows = BLOCK_SIZE // sizes.vector_values
    one = rows + max(0, OPERATION + 1 - rows)
    busy = max(passes * one, ceil(blocks * (2 * rows + OPERATION) / 2))
    bits = max((sizes.activation_blocks - 1).bit_length(), (sizes.vectors - 1).bit_length())
    return Cost(products_cycles(bits) + _OPERANDS + busy + tail_cycles(rows))


_COSTS: dict[str, Callable[[Instruction, Architecture], Cost]] = {
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
