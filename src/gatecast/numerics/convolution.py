"""Sums of products of blocks for arrays, in the contract's order.

A product of two blocks is an integer below 2**19 times a power of two, and so is every part of it. So a
float32 matrix product of *decoded* blocks of 32 is exact whatever order it sums in, and one addition to
the running sum does the only rounding.

Ref: docs/spec/numerics.md §2.
"""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from gatecast.errors import FormatError

from .array import Float32
from .formats import BLOCK_SIZE, MAX_SUM_BLOCKS

_CHUNK_VALUES = 1 << 16  # sums kept at work, so that they stay in the cache
_BLAS = ThreadpoolController()  # a product of one block is too small to share among threads


@dataclass(frozen=True)
class Window:
    """How a kernel moves: stride and dilation as (rows, columns), pads as (top, left, bottom, right)."""

    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    def output_size(self, size: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the result for a map of `size`."""
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilation, strict=True)]
        pads = (self.pads[0] + self.pads[2], self.pads[1] + self.pads[3])
        rows, columns = (
            (n + p - k) // s + 1 for n, p, k, s in zip(size, pads, spans, self.stride, strict=True)
        )
        return rows, columns


def accumulate_blocks(sums: Float32, activations: Float32, weights: Float32) -> None:
    """Add one block's products to ``sums[P, O]`` in place, from decoded ``[P, 32]`` and ``[O, 32]``."""
    sums += activations @ weights.T


def convolve(
    x: Float32, weights: Float32, window: Window = Window(), first_blocks: tuple[int, ...] = (0,)
) -> Float32:
    """Convolve decoded blocks; the sum only, without an epilogue.

    Parameters
    ----------
    x : float32 ``[H, W, B, 32]``
        Decoded activations.
    weights : float32 ``[O, kh, kw, P, 32]``
        Decoded weights. Lane i of piece p belongs to lane i of a stored block of `x`.
    window : Window
        Stride, zero padding and dilation.
    first_blocks : tuple of int
        For each of G groups of ``O / G`` outputs, the stored block that its piece 0 belongs to. A piece past
        the last stored block counts as zeros.

    Returns
    -------
    float32 ``[OH, OW, O]``

    Raises
    ------
    FormatError
        A sum of more than 2**14 blocks.
    """
    outputs, rows, columns, pieces = weights.shape[:4]
    if rows * columns * pieces > MAX_SUM_BLOCKS:
        raise FormatError(f"A sum must have at most {MAX_SUM_BLOCKS} blocks, not {rows * columns * pieces}")
    size = window.output_size(x.shape[:2], (rows, columns))
    x = _padded(x, window, max(first_blocks) + pieces)
    result = np.empty((*size, outputs), np.float32)
    per_group = outputs // len(first_blocks)
    firsts = np.repeat(np.array(first_blocks), per_group)
    with _BLAS.limit(limits=1, user_api="blas"):
        for first in dict.fromkeys(first_blocks):  # groups that start in the same stored block share a pass
            chosen = np.flatnonzero(firsts == first)
            kernel = np.ascontiguousarray(weights[chosen])
            result[..., chosen] = _convolve_pieces(x[:, :, first : first + pieces], kernel, window, size)
    return result


def _padded(x: Float32, window: Window, blocks: int) -> Float32:
    top, left, bottom, right = window.pads
    extra = max(0, blocks - x.shape[2])
    if not any((top, left, bottom, right, extra)):
        return x
    return np.pad(x, ((top, bottom), (left, right), (0, extra), (0, 0)))


def _convolve_pieces(x: Float32, weights: Float32, window: Window, size: tuple[int, int]) -> Float32:
    """Blocks in ascending (kernel row, kernel column, piece), some output rows at a time."""
    outputs, kernel_rows, kernel_columns, pieces = weights.shape[:4]
    (stride_y, stride_x), (dilation_y, dilation_x) = window.stride, window.dilation
    sums = np.zeros((*size, outputs), np.float32)
    step = max(1, _CHUNK_VALUES // (size[1] * outputs))
    for top in range(0, size[0], step):
        part = sums[top : top + step]
        flat = part.reshape(-1, outputs)
        height = part.shape[0]
        for ky in range(kernel_rows):
            y = top * stride_y + ky * dilation_y
            rows = x[y : y + (height - 1) * stride_y + 1 : stride_y]
            for kx in range(kernel_columns):
                left = kx * dilation_x
                taps = rows[:, left : left + (size[1] - 1) * stride_x + 1 : stride_x]
                for piece in range(pieces):
                    block = np.ascontiguousarray(taps[:, :, piece]).reshape(-1, BLOCK_SIZE)
                    accumulate_blocks(flat, block, weights[:, ky, kx, piece])
    return sums
