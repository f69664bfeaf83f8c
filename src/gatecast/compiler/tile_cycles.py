"""Cycles of a `convolve`: groups of pixels through the lanes, and their sums through the epilogue.

A group is taken when its places are known and the result memory has room for it. For each pass over the
lanes it takes one turn of all its pixels, or as many turns as the accumulator's loop has cycles, for each tap
and input block. Meanwhile the epilogue takes the sums of earlier groups, block after block.
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf

import numpy as np
import numpy.typing as npt

from gatecast.isa import Architecture, Instruction, sum_steps
from gatecast.numerics import BLOCK_SIZE

OPERATION = 10
"""Cycles of one float32 operation on a row of values."""

FLOAT32 = 1
"""Number of the format; those of blocks are larger."""

# From a step's turn: its block's address, the queue, the block and its weights, the dot product, the adder's
# loop beside its latency, the result memory, the first row of the epilogue; less 1 for the first four lanes.
_TO_SUMS = 2 + 2 + 4 + 7 + 2 - 1 + 2 + 6 - 1
_WORD_VALUES = 4
_AHEAD = 3  # cycles by which the last row of a block's sums is read before it is taken
_TOLD = 3  # from the strides of the results until the place of the first block is told
_ARRIVED = 1  # from a block's last row to its exponent
_EMPTY = 33  # cycles from the last step until partial sums may be set, beside the lanes' skew


def products_cycles(bits: int) -> int:
    """Cycles from an instruction's start until the strides that it multiplies, bit by bit, are known."""
    return bits + 1


def pass_cycles(rows: int) -> int:
    """Cycles of one operation on a block; the next one needs its results."""
    return max(rows, OPERATION + 1)


def tail_cycles(rows: int) -> int:
    """Cycles from the end of a unit's last pass until its last block is written."""
    return OPERATION + _ARRIVED + rows + 5


@dataclass(frozen=True)
class Shape:
    """What an Architecture makes of a tile.

    Parameters
    ----------
    passes : int
        Over the lanes, for the 32 channels of a block.
    steps : int
        Taps times input blocks.
    epilogue : int
        Cycles for a block.
    held : int
        Cycles from the start of a block in the epilogue until its sums are read.
    """

    passes: int
    steps: int
    epilogue: int
    held: int


def shape_of(instruction: Instruction, sizes: Architecture) -> Shape:
    """Passes, steps, and the pace of the epilogue."""
    rows = BLOCK_SIZE // sizes.epilogue_values
    operations = 1 + 2 * instruction.has_scale + (instruction.residual_format != 0)
    return Shape(
        BLOCK_SIZE // sizes.lanes, sum_steps(instruction), operations * pass_cycles(rows), rows - _AHEAD
    )


@dataclass
class Ring:
    """Result memory: how many pixels it has room for, and when the epilogue frees more."""

    room: int
    freed: deque[tuple[float, float, int]] = field(default_factory=deque)  # first, cycles each, pixels

    def take(self, pixels: int, now: float) -> float:
        """Return the cycle from `now` on in which there is room for so many pixels, and take it."""
        self.room -= pixels
        while self.room < 0:
            first, each, count = self.freed.popleft()
            used = min(count, -self.room)
            self.room += used
            now = max(now, first + (used - 1) * each + 1)
            if used < count:
                self.freed.appendleft((first + used * each, each, count - used))
        return now


def convolve_cycles(instruction: Instruction, sizes: Architecture, granted: float = 0.0) -> int:
    """Cycles from the start of a `convolve` until its last block is written.

    `granted` is the cycle in which the epilogue is free; sums wait for it in result memory.
    """
    i, shape = instruction, shape_of(instruction, sizes)
    groups = _groups(i.out_rows * i.out_columns, i.interleave or sizes.max_interleave)
    ring = Ring(2 << (sizes.max_interleave - 1).bit_length())
    start = float(products_cycles((sizes.activation_blocks - 1).bit_length()))
    to_sums = _TO_SUMS + sizes.adder_latency + sizes.lanes // 4
    delay = _share_of_reads(i, sizes) if i.residual_format > FLOAT32 else 0.0
    filled, free, cleared, epilogue = start, start, start, granted + start + _TOLD
    for number, pixels in enumerate(groups * i.out_blocks):
        filled = max(filled, cleared) + pixels + (number > 0 and number % len(groups) == 0)
        turns = max(pixels, sizes.adder_latency)
        taken = ring.take(pixels, max(free, filled))
        since = taken + 2 - free if number else inf  # cycles from the last step to where the next might be
        work = shape.passes * (1 + shape.steps * turns)
        work += round(delay * min(pixels, work / shape.epilogue)) if number else 0
        cleared, free = free, taken + 2 + work + _resumed(i, sizes, pixels, since)
        begins = max(epilogue, free - 1 - turns + to_sums)
        ring.freed.append((begins + shape.held, shape.epilogue, pixels))
        epilogue = begins + pixels * shape.epilogue
    return round(epilogue + tail_cycles(BLOCK_SIZE // sizes.epilogue_values))


def _share_of_reads(instruction: Instruction, sizes: Architecture) -> float:
    """Share of the cycles of full groups in which a step reads a block, so that another reader delays it."""
    inside = inside_taps(instruction, "y", "rows").sum() * inside_taps(instruction, "x", "columns").sum()
    taps = instruction.kernel_rows * instruction.kernel_columns
    pixels = instruction.out_rows * instruction.out_columns
    group = min(pixels, instruction.interleave or sizes.max_interleave)
    return float(inside / (taps * pixels) * min(1.0, group / sizes.adder_latency))


def inside_taps(instruction: Instruction, axis: str, part: str) -> npt.NDArray[np.int64]:
    """Taps inside the map along one axis, for each output along it."""
    dilation = getattr(instruction, f"dilation_{axis}") if instruction.has(f"dilation_{axis}") else 1
    outputs = np.arange(getattr(instruction, f"out_{part}")) * getattr(instruction, f"stride_{axis}")
    taps = np.arange(getattr(instruction, f"kernel_{part}")) * dilation + getattr(instruction, f"in_{axis}")
    at = outputs[:, None] + taps
    inside: npt.NDArray[np.int64] = ((at >= 0) & (at < getattr(instruction, f"in_{part}"))).sum(axis=1)
    return inside


def _resumed(instruction: Instruction, sizes: Architecture, pixels: int, since: float) -> float:
    """Cycles of a group in which partial sums are read, each time after the lanes have emptied.

    `since` is how long ago the last step was when the first pass could begin.
    """
    if not instruction.resume:
        return 0
    bubbles = max(0, sizes.adder_latency - pixels)
    empty = max(0, _EMPTY + sizes.lanes // 4 - bubbles)
    passes = BLOCK_SIZE // sizes.lanes
    read = pixels * (sizes.lanes // _WORD_VALUES + 2)
    return passes * read + (passes - 1) * empty + max(0, empty - since)


def _groups(pixels: int, most: int) -> list[int]:
    whole, rest = divmod(pixels, most)
    return [most] * whole + ([rest] if rest else [])
