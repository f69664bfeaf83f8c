"""Mantissas in external memory and on chip. See docs/spec/isa.md §3."""

from functools import reduce
from operator import or_

import numpy as np
from amaranth.hdl import Cat, Const, Module, Signal, Value

from ..numerics import BLOCK_SIZE, FORMATS, pack, unpack

BITS = tuple(fmt.bits for fmt in FORMATS.values())
FIRST_CODE = 2
"""Number of the first block format in an instruction."""

RAW = FIRST_CODE + len(BITS) - 1
"""Number of the format whose mantissas are bytes."""

HALF = BLOCK_SIZE // 2
"""Mantissas that are packed or unpacked at once."""


def unpacked(codes: Value, formats: Value, most: int = 8) -> Value:
    """Left-aligned mantissas, a byte each, of 16 packed ones: half a block.

    `formats` has a bit for each format, one of which is set; one wider than `most` leaves bytes as they
    are.
    """
    found = []
    for bits in BITS:
        bits = bits if bits <= most else 8
        fields = [codes[i * bits : (i + 1) * bits] for i in range(HALF)]
        found.append(Cat(Cat(Const(0, 8 - bits), field) for field in fields))
    return _chosen(found, formats)


def packed(half: Value, formats: Value, most: int = 8) -> Value:
    """The inverse of `unpacked`; bits above the format's are 0."""
    found = []
    for bits in BITS:
        bits = bits if bits <= most else 8
        found.append(Cat(half[8 * i + 8 - bits : 8 * i + 8] for i in range(HALF)))
    return _chosen(found, formats)


def half_bytes(code: Value) -> Value:
    """Bytes of half a packed block, 8 to 16."""
    return (code + 2) << 1


def block_bytes(m: Module, code: Value) -> Value:
    """Bytes of a packed block, 16 to 32."""
    signal = Signal(6, name="block_bytes")
    m.d.comb += signal.eq((code + 2) << 2)
    return signal


def unpacked_model(codes: bytes, bits: int) -> bytes:
    """What `unpacked` gives."""
    fmt = FORMATS[f"bfp{bits}"]
    return (unpack(np.frombuffer(codes, np.uint8), fmt) << 8 - bits).tobytes()


def packed_model(block: bytes, bits: int) -> bytes:
    """What `packed` gives."""
    fmt = FORMATS[f"bfp{bits}"]
    return pack(np.frombuffer(block, np.int8) >> 8 - bits, fmt).tobytes()


def _chosen(found: list[Value], formats: Value) -> Value:
    """One of them, by a bit for each: two at a time come together in a LUT."""
    chosen = [(value & chosen.replicate(len(value))) for value, chosen in zip(found, formats, strict=True)]
    return reduce(or_, chosen)
