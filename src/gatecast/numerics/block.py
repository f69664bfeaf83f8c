"""The definition of the arithmetic: one block, one sum, one value at a time, written to be read.

The array versions in `array` and `convolution` give the same bits; tests hold them equal.

Ref: docs/spec/numerics.md §§1-2.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gatecast.errors import FormatError

from .formats import BLOCK_SIZE, EXPONENT_MAX, EXPONENT_MIN, Format


@dataclass(frozen=True)
class Block:
    """Value i is ``mantissas[i] * 2**(exponent - (format.bits - 2))``."""

    format: Format
    exponent: int
    mantissas: tuple[int, ...]


def encode_block(values: Sequence[float], fmt: Format) -> Block:
    """Round 32 finite float32 values to a block.

    The exponent is that of the largest magnitude, clamped; mantissas go to the nearest integer, ties to
    the even one, and saturate symmetrically. All zero gives the smallest exponent.

    Raises
    ------
    FormatError
        Not 32 values, or one that is not finite.
    """
    if len(values) != BLOCK_SIZE:
        raise FormatError(f"Block of {fmt} must have {BLOCK_SIZE} values, not {len(values)}")
    if not all(math.isfinite(value) for value in values):
        raise FormatError(f"Values of {fmt} must be finite; remove NaN and infinities first")
    _, exponent = math.frexp(max(abs(value) for value in values))
    exponent -= 1  # frexp's fraction lies in [0.5, 1)
    if not any(values):
        exponent = EXPONENT_MIN
    exponent = min(max(exponent, EXPONENT_MIN), EXPONENT_MAX)
    limit = fmt.mantissa_max
    rounded = (round(math.ldexp(value, fmt.bits - 2 - exponent)) for value in values)
    return Block(fmt, exponent, tuple(min(max(mantissa, -limit), limit) for mantissa in rounded))


def decode_block(block: Block) -> tuple[float, ...]:
    """Values of `block`, exactly; a mantissa of 0 is +0.0."""
    shift = block.exponent - (block.format.bits - 2)
    return tuple(math.ldexp(mantissa, shift) for mantissa in block.mantissas)


def accumulate(sum_: np.float32, activation: Block, weight: Block) -> np.float32:
    """Add the product of two blocks to a float32 sum: an exact integer dot, exact scaling, one rounding."""
    dot = sum(a * w for a, w in zip(activation.mantissas, weight.mantissas, strict=True))
    shift = activation.exponent + weight.exponent - (activation.format.bits - 2) - (weight.format.bits - 2)
    return np.float32(sum_ + np.float32(math.ldexp(dot, shift)))


def dot(activations: Iterable[Block], weights: Iterable[Block]) -> np.float32:
    """Sum of products of blocks in the order given, from +0.0."""
    total = np.float32(0)
    for activation, weight in zip(activations, weights, strict=True):
        total = accumulate(total, activation, weight)
    return total


def pack_block(block: Block) -> bytes:
    """Mantissas as little-endian two's complement fields: element i at bits ``[i * N, (i + 1) * N)``."""
    bits = block.format.bits
    field = (1 << bits) - 1
    word = sum((mantissa & field) << i * bits for i, mantissa in enumerate(block.mantissas))
    return word.to_bytes(block.format.block_bytes, "little")
