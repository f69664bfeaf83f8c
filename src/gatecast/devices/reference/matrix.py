"""`convolve`. See docs/spec/isa.md §6 and docs/spec/numerics.md §2."""

import numpy as np

from ...isa import Instruction, block_format, partial_count, sum_steps, window_blocks
from ...numerics import BLOCK_SIZE, accumulate_blocks, decode_blocks
from .memory import Float32, Memory
from .vector import activate, affine, finish

_CHUNK_SUMS = 1 << 16  # sums at work at once, so that they stay in the cache


def convolve(memory: Memory, instruction: Instruction) -> None:
    """Add the products of a tile in ascending (kernel row, kernel column, block), then its epilogue."""
    sums = _first_sums(memory, instruction)
    window = memory.window(instruction, window_blocks(instruction))
    panels = _panels(memory, instruction)
    per_group = instruction.group_blocks or instruction.out_blocks
    for group, first in enumerate(range(0, instruction.out_blocks, per_group)):
        lanes = slice(first * BLOCK_SIZE, (first + per_group) * BLOCK_SIZE)
        blocks = slice(group * instruction.in_blocks, (group + 1) * instruction.in_blocks)
        _accumulate(instruction, sums[..., lanes], window[:, :, blocks], panels[:, lanes])
    if instruction.suspend:
        memory.vectors[instruction.partials :][: partial_count(instruction)] = sums.reshape(-1, BLOCK_SIZE)
    else:
        _epilogue(memory, instruction, sums.reshape(*sums.shape[:2], -1, BLOCK_SIZE))


def _first_sums(memory: Memory, instruction: Instruction) -> Float32:
    """Sums ``[rows, columns, lanes]`` to begin with."""
    shape = (instruction.out_rows, instruction.out_columns, instruction.out_blocks * BLOCK_SIZE)
    if instruction.resume:
        return memory.vectors[instruction.partials :][: partial_count(instruction)].reshape(shape).copy()
    return np.zeros(shape, np.float32)


def _panels(memory: Memory, instruction: Instruction) -> Float32:
    """Decoded weights ``[step, lanes, 32]``."""
    steps, blocks = sum_steps(instruction), instruction.out_blocks
    addresses = memory.panel_addresses(instruction.weights, steps * blocks).reshape(blocks, steps).T
    fmt = block_format(instruction.weight_format)
    values = decode_blocks(memory.panels[addresses], memory.panel_exponents[addresses], fmt)
    return values.reshape(steps, -1, BLOCK_SIZE)


def _accumulate(instruction: Instruction, sums: Float32, window: Float32, panels: Float32) -> None:
    """Add to ``sums[rows, columns, lanes]``, some rows at a time."""
    rows, columns, lanes = sums.shape
    height = max(1, _CHUNK_SUMS // (columns * lanes))
    for top in range(0, rows, height):
        part = sums[top : top + height]
        chunk = np.ascontiguousarray(part).reshape(-1, lanes)
        step = 0
        for ky in range(instruction.kernel_rows):
            for kx in range(instruction.kernel_columns):
                pixels = _tap(instruction, window, (top, part.shape[0]), (ky, kx))
                for block in range(instruction.in_blocks):
                    activations = np.ascontiguousarray(pixels[:, :, block]).reshape(-1, BLOCK_SIZE)
                    accumulate_blocks(chunk, activations, panels[step])
                    step += 1
        part[...] = chunk.reshape(part.shape)


def _tap(instruction: Instruction, window: Float32, rows: tuple[int, int], tap: tuple[int, int]) -> Float32:
    """Values ``[rows, columns, blocks, 32]`` that tap (ky, kx) of some output rows meets."""
    top, height = rows
    y, x = top * instruction.stride_y + tap[0] * instruction.dilation_y, tap[1] * instruction.dilation_x
    return window[y :: instruction.stride_y, x :: instruction.stride_x][:height, : instruction.out_columns]


def _epilogue(memory: Memory, instruction: Instruction, values: Float32) -> None:
    if instruction.has_bias:
        values = values + memory.vectors[instruction.bias :][: instruction.out_blocks]
    values = affine(memory, instruction, values)
    residual = instruction.view("residual")
    if residual.format != "none":
        values = values + memory.read(residual, values.shape[:3])
    finish(memory, instruction, activate(instruction, values))
