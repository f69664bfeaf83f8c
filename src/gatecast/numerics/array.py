"""Encode, decode and packing for arrays: the same bits as `block`, written to be fast.

Ref: docs/spec/numerics.md §1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import FormatError

from .formats import BLOCK_SIZE, EXPONENT_BIAS, EXPONENT_MAX, EXPONENT_MIN, LARGEST, Format

Float32 = npt.NDArray[np.float32]
Mantissas = npt.NDArray[np.int8]
Exponents = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint8]


def powers_of_two(exponents: npt.NDArray[Any]) -> Float32:
    """float32 ``2**exponent``, exact for exponents of normal numbers."""
    bits: npt.NDArray[np.int32] = (exponents.astype(np.int32) + 127) << 23
    return bits.view(np.float32)


def blocks_of(channels: int) -> int:
    """Blocks that hold `channels` values."""
    return -(-channels // BLOCK_SIZE)


def split_blocks(x: Float32) -> Float32:
    """``[…, C]`` to ``[…, B, 32]``, the last block filled with zeros."""
    missing = -x.shape[-1] % BLOCK_SIZE
    if missing:
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
    return x.reshape(*x.shape[:-1], -1, BLOCK_SIZE)


def join_blocks(blocks: Float32, channels: int) -> Float32:
    """``[…, B, 32]`` to ``[…, channels]``; the inverse of `split_blocks`."""
    return blocks.reshape(*blocks.shape[:-2], -1)[..., :channels]


def encode(x: Float32, fmt: Format) -> tuple[Mantissas, Exponents]:
    """Round ``[…, C]`` float32 along the last axis, padded with zeros to whole blocks.

    Returns
    -------
    mantissas : int8 ``[…, B, 32]``
    exponents : uint8 ``[…, B]``, biased by 127

    Raises
    ------
    FormatError
        A value is not finite; its index is named.
    """
    x = np.asarray(x, np.float32)
    largest = np.abs(blocks := split_blocks(x)).max(axis=-1)
    if not np.isfinite(largest).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise FormatError(f"Values of {fmt} must be finite, not {x[index]} at {list(index)}")
    exponents = (largest.view(np.uint32) >> 23).astype(np.int32) - EXPONENT_BIAS
    np.clip(exponents, EXPONENT_MIN, EXPONENT_MAX, out=exponents)
    scaled = blocks * powers_of_two(fmt.bits - 2 - exponents)[..., None]
    np.rint(scaled, out=scaled)
    limit = fmt.mantissa_max
    np.clip(scaled, -limit, limit, out=scaled)
    return scaled.astype(np.int8), (exponents + EXPONENT_BIAS).astype(np.uint8)


def encode_pixels(x: Float32, counts: Sequence[int], fmt: Format) -> tuple[Mantissas, Exponents]:
    """Round ``[…, C]`` float32 into blocks that hold `counts` channels each, from lane 0, then zeros.

    Results and errors are those of `encode`; the counts add up to C.
    """
    lanes = np.zeros((*x.shape[:-1], len(counts) * BLOCK_SIZE), np.float32)
    lanes[..., lanes_of(counts)] = x
    return encode(lanes, fmt)


def encode_map(x: Float32, counts: Sequence[int], fmt: Format, codes: Codes, exponents: Exponents) -> bool:
    """Encode a map into the planes of a section.

    Parameters
    ----------
    x : float32 ``[rows, columns, C]``
    counts : sequence of int
        Channels of each block, from lane 0; they add up to C.
    fmt : Format
    codes, exponents : uint8 ``[rows, columns, B, 4 * N]`` and ``[rows, columns, B]``
        Views that get packed mantissas and biased exponents; blocks of a pixel lie side by side.

    Returns
    -------
    bool
        False if a value is not finite or beyond 2**64. What the planes then hold means nothing.
    """
    if x.size and not np.abs(x).max() <= LARGEST:
        return False
    mantissas, exponents[...] = encode_pixels(x, counts, fmt)
    codes[...] = pack(mantissas, fmt)
    return True


def lanes_of(counts: Sequence[int]) -> npt.NDArray[np.intp]:
    """Position of each channel among the lanes of blocks that hold `counts` channels each, from lane 0."""
    return np.concatenate([b * BLOCK_SIZE + np.arange(n) for b, n in enumerate(counts)])


def decode_blocks(mantissas: Mantissas, exponents: Exponents, fmt: Format) -> Float32:
    """Values of blocks as float32 ``[…, B, 32]``, exactly."""
    step = powers_of_two(exponents.astype(np.int32) - EXPONENT_BIAS - (fmt.bits - 2))
    values: Float32 = mantissas.astype(np.float32)
    values *= step[..., None]
    return values


def decode(mantissas: Mantissas, exponents: Exponents, fmt: Format, channels: int | None = None) -> Float32:
    """Values of blocks as float32 ``[…, channels]``, exactly; all ``32 * B`` of them without `channels`."""
    count = mantissas.shape[-2] * BLOCK_SIZE if channels is None else channels
    return join_blocks(decode_blocks(mantissas, exponents, fmt), count)


def round_to_format(x: Float32, fmt: Format) -> Float32:
    """``decode(encode(x))``: ``[…, C]`` float32 to the same shape."""
    return decode(*encode(x, fmt), fmt, x.shape[-1])


def is_canonical(mantissas: Mantissas, exponents: Exponents, fmt: Format) -> npt.NDArray[np.bool_]:
    """Whether encoding the decoded block gives the same block; bool ``[…, B]``.

    Blocks out of range (a mantissa of ``-2**(N-1)``, an exponent beyond ±48) are not canonical.
    """
    valid = in_range(mantissas, exponents, fmt)
    safe = np.where(valid, exponents, np.uint8(EXPONENT_BIAS)).astype(np.uint8)
    again, exponents_again = encode(decode(mantissas, safe, fmt), fmt)
    same: npt.NDArray[np.bool_] = valid & (again == mantissas).all(axis=-1) & (exponents_again == exponents)
    return same


def in_range(mantissas: Mantissas, exponents: Exponents, fmt: Format) -> npt.NDArray[np.bool_]:
    """Whether each block keeps ``|M| <= 2**(N-1) - 1`` and ``|E| <= 48``, bool ``[…, B]``."""
    magnitude = np.abs(mantissas.astype(np.int16)).max(axis=-1)
    exponent = exponents.astype(np.int16) - EXPONENT_BIAS
    valid: npt.NDArray[np.bool_] = (
        (magnitude <= fmt.mantissa_max) & (exponent >= EXPONENT_MIN) & (exponent <= EXPONENT_MAX)
    )
    return valid


def pack(mantissas: Mantissas, fmt: Format) -> Codes:
    """int8 ``[…, 32]`` to uint8 ``[…, 4 * N]``: element i at bits ``[i * N, (i + 1) * N)``, little-endian."""
    if fmt.bits == 8:
        return np.ascontiguousarray(mantissas).view(np.uint8)
    raw = np.ascontiguousarray(mantissas).view(np.uint8)
    bits = np.unpackbits(raw[..., None], axis=-1, count=fmt.bits, bitorder="little")
    return np.packbits(bits.reshape(*raw.shape[:-1], -1), axis=-1, bitorder="little")


def unpack(codes: Codes, fmt: Format) -> Mantissas:
    """uint8 ``[…, 4 * N]`` to int8 ``[…, 32]``; the inverse of `pack`."""
    if fmt.bits == 8:
        return np.ascontiguousarray(codes).view(np.int8)
    bits = np.unpackbits(codes, axis=-1, bitorder="little").reshape(*codes.shape[:-1], BLOCK_SIZE, fmt.bits)
    raw = np.packbits(bits, axis=-1, bitorder="little")[..., 0]
    shift = 8 - fmt.bits  # moves the field's sign to the byte's, and back
    return (raw << shift).view(np.int8) >> shift
