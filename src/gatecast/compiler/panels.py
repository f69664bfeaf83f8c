"""Weights in the order in which instructions read them, and how groups of channels fall on blocks.

Ref: docs/spec/isa.md §§3, 6; docs/spec/numerics.md §2 for groups.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gatecast.graph import BlockWeights, first_blocks
from gatecast.numerics import BFP4, BLOCK_SIZE, EXPONENT_BIAS, EXPONENT_MIN, Format, blocks_of

from .operations import Panels

_ZERO_EXPONENT = EXPONENT_MIN + EXPONENT_BIAS


@dataclass(frozen=True)
class Slab:
    """Output blocks computed by one operation, and the input blocks that they read.

    Output block ``first + i`` reads `in_blocks` blocks from ``in_first + i // group_blocks * in_blocks``, all
    of them the same ones if `group_blocks` is 0.
    """

    first: int
    blocks: int
    in_first: int
    in_blocks: int
    group_blocks: int


def slabs(outputs: int, channels: int, groups: int) -> tuple[Slab, ...]:
    """Cut a convolution into as few operations as its groups allow: one, or one for each output block.

    `channels` are the input channels of a group.
    """
    per_group = outputs // groups
    ranges = []
    for block in range(blocks_of(outputs)):
        first = block * BLOCK_SIZE // per_group
        last = (min((block + 1) * BLOCK_SIZE, outputs) - 1) // per_group
        ranges.append((first * channels // BLOCK_SIZE, blocks_of((last + 1) * channels)))
    whole = _regular(ranges)
    if whole is not None:
        return (whole,)
    return tuple(Slab(block, 1, first, last - first, 0) for block, (first, last) in enumerate(ranges))


def _regular(ranges: Sequence[tuple[int, int]]) -> Slab | None:
    """One slab for all blocks, if their input ranges are the same or step evenly from 0."""
    if len(set(ranges)) == 1:
        return Slab(0, len(ranges), ranges[0][0], ranges[0][1] - ranges[0][0], 0)
    share = ranges.count(ranges[0])
    size = ranges[0][1] - ranges[0][0]
    expected = [
        (ranges[0][0] + i // share * size, ranges[0][0] + i // share * size + size)
        for i in range(len(ranges))
    ]
    return Slab(0, len(ranges), ranges[0][0], size, share) if expected == list(ranges) else None


def slab_panels(weights: BlockWeights, groups: int, slab: Slab) -> Panels:
    """Panels of a slab; absent outputs, and blocks that an output's group does not touch, are zero."""
    outputs, rows, columns, pieces = weights.exponents.shape
    if groups == 1:
        return _dense(weights)
    firsts = first_blocks(weights.channels, groups)
    lanes = slab.blocks * BLOCK_SIZE
    shape = (lanes, rows, columns, slab.in_blocks)
    mantissas = np.zeros((*shape, BLOCK_SIZE), np.int8)
    exponents = np.full(shape, _ZERO_EXPONENT, np.uint8)
    for lane, output in _lanes(slab, outputs):
        group = output * groups // outputs
        start = slab.in_first
        if slab.group_blocks:
            start += lane // BLOCK_SIZE // slab.group_blocks * slab.in_blocks
        for step in range(slab.in_blocks):
            piece = start + step - firsts[group]
            if 0 <= piece < pieces:
                mantissas[lane, :, :, step] = weights.mantissas[output, :, :, piece]
                exponents[lane, :, :, step] = weights.exponents[output, :, :, piece]
    return _as_panels(weights.format, mantissas, exponents)


def _lanes(slab: Slab, outputs: int) -> Iterator[tuple[int, int]]:
    """Each lane of a slab that has an output, and that output."""
    first = slab.first * BLOCK_SIZE
    yield from ((lane, first + lane) for lane in range(min(slab.blocks * BLOCK_SIZE, outputs - first)))


def _dense(weights: BlockWeights) -> Panels:
    missing = -len(weights.exponents) % BLOCK_SIZE
    mantissas, exponents = weights.mantissas, weights.exponents
    if missing:
        mantissas = np.pad(mantissas, [(0, missing), *[(0, 0)] * 4])
        exponents = np.pad(exponents, [(0, missing), *[(0, 0)] * 3], constant_values=_ZERO_EXPONENT)
    return _as_panels(weights.format, mantissas, exponents)


def _as_panels(fmt: Format, mantissas: npt.NDArray[np.int8], exponents: npt.NDArray[np.uint8]) -> Panels:
    """``[lane of all, kh, kw, block(, 32)]`` to the order of panels; views, not copies."""
    split = exponents.reshape(-1, BLOCK_SIZE, *exponents.shape[1:])
    return Panels(
        fmt.name,
        mantissas.reshape(*split.shape, BLOCK_SIZE).transpose(0, 2, 3, 4, 1, 5),
        split.transpose(0, 2, 3, 4, 1),
    )


def selection(sources: Sequence[int], blocks: int) -> Panels:
    """Weights 0 and 1 of a 1x1 convolution: output channel i takes lane ``sources[i]`` of `blocks` blocks."""
    lanes = blocks_of(len(sources)) * BLOCK_SIZE
    mantissas = np.zeros((lanes, 1, 1, blocks, BLOCK_SIZE), np.int8)
    exponents = np.full((lanes, 1, 1, blocks), _ZERO_EXPONENT, np.uint8)
    for lane, source in enumerate(sources):
        block, position = divmod(source, BLOCK_SIZE)
        mantissas[lane, 0, 0, block, position] = 1 << BFP4.bits - 2
        exponents[lane, 0, 0, block] = EXPONENT_BIAS
    return _as_panels(BFP4, mantissas, exponents)


def ones(blocks: int, kernel: tuple[int, int]) -> Panels:
    """Weights of a depthwise convolution that sums each channel over its window."""
    block = np.zeros((BLOCK_SIZE, BLOCK_SIZE), np.int8)
    np.fill_diagonal(block, 1 << BFP4.bits - 2)
    shape = (blocks, *kernel, 1)
    return Panels(
        BFP4.name,
        np.broadcast_to(block, (*shape, BLOCK_SIZE, BLOCK_SIZE)),
        np.broadcast_to(np.uint8(EXPONENT_BIAS), (*shape, BLOCK_SIZE)),
    )
