"""Cycles of one instruction by itself: from the sizes of an Architecture and the loops of the NPU's units.

docs/guides/rtl.md says how these units work, and what is left out here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

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

from .tile_cycles import (
    FLOAT32,
    convolve_cycles,
    inside_taps,
    pass_cycles,
    products_cycles,
    tail_cycles,
)

BEAT_BYTES = 16
"""Bytes of a beat of external memory, and the most that a unit asks for or writes at once: a piece."""

_READ = 3  # cycles from a request to on-chip memory to its answer
_VECTOR_PIECES = 8  # of a vector, one a word of vector memory
_OPERANDS = 12  # cycles from a unit's first request for an operand to its first row
_PITCH_BITS = 24  # of the product that `load` and `store` make first

_ACTIVATION_PASSES = {Activation.LEAKY_RELU: 2, Activation.HARD_SIGMOID: 2, Activation.HARD_SWISH: 3}

Starts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cost:
    """What an instruction takes when it has all tokens and memory to itself.

    Parameters
    ----------
    before, after : float
        Cycles before its first and after its last beat of external memory; all of them if there is none.
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


def cost(instruction: Instruction, sizes: Architecture, granted: float = 0.0) -> Cost:
    """Return what an instruction takes on an Architecture that says how many lanes it has.

    `granted` is the cycle after its start in which a `convolve` is granted the epilogue.
    """
    if instruction.name == "convolve":
        return Cost(convolve_cycles(instruction, sizes, granted))
    return _COSTS[instruction.name](instruction, sizes)


def _nothing(instruction: Instruction, sizes: Architecture) -> Cost:
    return Cost(0)


def _load(instruction: Instruction, sizes: Architecture) -> Cost:
    """Of each block its exponent and halves, of each vector its words; a piece takes a cycle or more."""
    values, exponents = _planes(instruction)
    beats = int(_spans(values, external_map(instruction).element_bytes).sum()) + len(exponents)
    pieces = len(values) * (3 if len(exponents) else _VECTOR_PIECES)
    return Cost(products_cycles(_PITCH_BITS), beats, after=4, pace=max(1, pieces / beats), reads=True)


def _store(instruction: Instruction, sizes: Architecture) -> Cost:
    """Read a block, write its halves, then its exponent; then the next block."""
    values, exponents = _planes(instruction)
    before = products_cycles(_PITCH_BITS)
    if instruction.in_format == FLOAT32:
        beats = len(values) * _VECTOR_PIECES
        return Cost(before, beats, pace=_READ + 2)
    half = external_map(instruction).element_bytes // 2
    first = int(_spans(values, half).sum())
    beats = first + int(_spans(values + half, half).sum()) + len(exponents)
    return Cost(before, beats, pace=(first + len(values) * (_READ + 4)) / beats)


def _planes(instruction: Instruction) -> tuple[Starts, Starts]:
    """First bytes of the mantissas or values, and bytes of the exponents, of each block."""
    place = external_map(instruction)
    y, x, c = np.ogrid[: place.rows, : place.columns, : place.blocks]
    pixel = x * place.pixel_pitch + c
    values = place.offset + y * place.row_pitch + pixel * place.element_bytes
    exponents = place.exponents + y * place.exponent_pitch + pixel
    return values.ravel(), exponents.ravel() if place.encoded else exponents.ravel()[:0]


def _weights(instruction: Instruction, sizes: Architecture) -> Cost:
    """Of each half of a panel its exponents, then the halves of its lanes' blocks."""
    whole = panel_bytes(instruction.format)
    block = whole // BLOCK_SIZE - 1
    panels = instruction.offset + np.arange(instruction.count, dtype=np.int64) * whole
    lanes = (panels[:, None] + np.arange(BLOCK_SIZE) * block).ravel()
    exponents = (panels[:, None] + BLOCK_SIZE * block + np.array([0, BEAT_BYTES])).ravel()
    beats = int(_spans(lanes, block).sum() + _spans(exponents, BEAT_BYTES).sum())
    pieces = 2 * (len(lanes) + len(panels))
    return Cost(0, beats, after=4, pace=max(1, pieces / beats), reads=True)


def _constants(instruction: Instruction, sizes: Architecture) -> Cost:
    vectors = instruction.offset + np.arange(instruction.count, dtype=np.int64) * 128
    return Cost(0, int(_spans(vectors, 128).sum()), after=4, reads=True)


def _spans(starts: Starts, size: int) -> Starts:
    """Beats that strings of `size` bytes touch."""
    return (starts % BEAT_BYTES + size - 1) // BEAT_BYTES + 1


def _pool(instruction: Instruction, sizes: Architecture) -> Cost:
    """A pass for each tap inside the map, and one for the factor."""
    inside = np.outer(inside_taps(instruction, "y", "rows"), inside_taps(instruction, "x", "columns")).ravel()
    passes = inside + (instruction.operation == PoolOperation.AVERAGE)
    return _vector(sizes, int(passes.sum()) * instruction.out_blocks, _OPERANDS)


def _map(instruction: Instruction, sizes: Architecture) -> Cost:
    """A pass for each operand and each operation behind."""
    passes = 1 + (instruction.operation != MapOperation.COPY) + 2 * instruction.has_scale
    passes += _ACTIVATION_PASSES.get(Activation(instruction.activation), 0)
    blocks = prod((instruction.out_rows, instruction.out_columns, instruction.out_blocks))
    return _vector(sizes, passes * blocks, _OPERANDS)


def _vector(sizes: Architecture, passes: int, operands: int) -> Cost:
    rows = BLOCK_SIZE // sizes.vector_values
    bits = max((sizes.activation_blocks - 1).bit_length(), (sizes.vectors - 1).bit_length())
    busy = passes * pass_cycles(rows)
    return Cost(products_cycles(bits) + operands + busy + tail_cycles(rows))


_COSTS: dict[str, Callable[[Instruction, Architecture], Cost]] = {
    "end": _nothing,
    "sync": _nothing,
    "load": _load,
    "store": _store,
    "weights": _weights,
    "constants": _constants,
    "pool": _pool,
    "map": _map,
}
