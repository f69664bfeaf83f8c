"""Weights in blocks as constants of an ONNX file: which channels share a block, and back to `BlockWeights`.

Ref: docs/spec/onnx.md §2; docs/spec/numerics.md §2 for the pieces of a group.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gatecast.errors import FileError, UnsupportedError
from gatecast.graph import BlockWeights, pieces_of
from gatecast.numerics import (
    BFP8,
    BLOCK_SIZE,
    EXPONENT_BIAS,
    EXPONENT_MAX,
    EXPONENT_MIN,
    FORMATS,
    Format,
    in_range,
)

from .values import BlockConstant

ABSENT = EXPONENT_BIAS + EXPONENT_MIN
"""Exponent byte of a piece that a group does not have."""


@dataclass(frozen=True)
class Span:
    """A run of channels of a group in one stored block: `length` channels from `channel` on, at `lane`."""

    piece: int
    lane: int
    length: int
    channel: int

    @property
    def lanes(self) -> slice:
        """Lanes of the block."""
        return slice(self.lane, self.lane + self.length)

    @property
    def channels(self) -> slice:
        """Channels of the group."""
        return slice(self.channel, self.channel + self.length)


def spans(channels: int, lane: int) -> Iterator[Span]:
    """Cut a group of `channels` channels, the first at `lane` of its stored block, at the blocks' ends."""
    piece = channel = 0
    while channel < channels:
        length = min(BLOCK_SIZE - lane, channels - channel)
        yield Span(piece, lane, length, channel)
        piece, channel, lane = piece + 1, channel + length, 0


def outputs_by_lane(channels: int, groups: int, outputs: int) -> dict[int, npt.NDArray[np.int64]]:
    """Outputs whose group starts at each lane of a stored block, in ascending order."""
    lanes = np.repeat(np.arange(groups) * channels % BLOCK_SIZE, outputs // groups)
    return {int(lane): np.flatnonzero(lanes == lane) for lane in dict.fromkeys(lanes.tolist())}


def name_format(name: str) -> Format:
    """Format that an initializer's name tells (``conv1.weight.bfp5``), bfp8 if it tells none."""
    found = re.search(r"\.(bfp\d)$", name)
    return FORMATS.get(found.group(1), BFP8) if found else BFP8


def gather_blocks(constant: BlockConstant, groups: int) -> BlockWeights:
    """Return the weights (O, I, kh, kw) of a convolution in the blocks of the input's channels.

    Raises
    ------
    UnsupportedError
        Channels of one block have different exponents.
    FileError
        A mantissa or an exponent is out of range.
    """
    mantissas = constant.mantissas.transpose(0, 2, 3, 1)
    shifts = constant.shifts.transpose(0, 2, 3, 1)
    outputs, rows, columns, channels = mantissas.shape
    fmt = constant.format
    shape = (outputs, rows, columns, pieces_of(channels, groups))
    blocks = np.zeros((*shape, BLOCK_SIZE), np.int8)
    exponents = np.full(shape, EXPONENT_MIN, np.int16)
    for lane, chosen in outputs_by_lane(channels, groups, outputs).items():
        part, part_shifts = mantissas[chosen], shifts[chosen]
        for span in spans(channels, lane):
            shared = part_shifts[..., span.channels]
            if (shared != shared[..., :1]).any():
                raise UnsupportedError(
                    f"Weights {constant.name} must have one exponent for each block of {BLOCK_SIZE} channels",
                    hint="Start from the float network and quantise it with `gatecast quantize`.",
                )
            blocks[chosen, ..., span.piece, span.lanes] = part[..., span.channels]
            exponents[chosen, ..., span.piece] = shared[..., 0] + fmt.bits - 2
    _check_range(constant.name, blocks, exponents, fmt)
    return BlockWeights(fmt, blocks, (exponents + EXPONENT_BIAS).astype(np.uint8), channels)


def _check_range(
    name: str, mantissas: npt.NDArray[np.int8], exponents: npt.NDArray[np.int16], fmt: Format
) -> None:
    safe = exponents.clip(-EXPONENT_BIAS, EXPONENT_BIAS) + EXPONENT_BIAS
    valid = in_range(mantissas, safe.astype(np.uint8), fmt)
    if not valid.all():
        index = [int(i) for i in np.argwhere(~valid)[0]]
        raise FileError(
            f"Block of {name} at (output, row, column, block) {index} must have mantissas within "
            f"±{fmt.mantissa_max} and an exponent within ±{EXPONENT_MAX}, not "
            f"{int(np.abs(mantissas[tuple(index)].astype(int)).max())} and {int(exponents[tuple(index)])}"
        )
