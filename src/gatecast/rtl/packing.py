"""Mantissas in external memory and on chip. See docs/spec/isa.md §3."""

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Signal, Value

from ..numerics import BLOCK_SIZE, FORMATS, pack, unpack

BITS = tuple(fmt.bits for fmt in FORMATS.values())
FIRST_CODE = 2
"""Number of the first block format in an instruction."""


def unpacked(codes: Value, code: Value, most: int = 8) -> Value:
    """Left-aligned mantissas, a byte each, of packed ones.

    `code` is the format's number; formats have `most` bits at most.
    """
    found = []
    for bits in BITS:
        bits = min(bits, most)
        fields = [codes[i * bits : (i + 1) * bits] for i in range(BLOCK_SIZE)]
        found.append(Cat(Cat(Const(0, 8 - bits), field) for field in fields))
    return _chosen(found, code)


def packed(block: Value, code: Value, most: int = 8) -> Value:
    """The inverse of `unpacked`; bits above the format's are 0."""
    found = []
    for bits in BITS:
        bits = min(bits, most)
        found.append(Cat(block[8 * i + 8 - bits : 8 * i + 8] for i in range(BLOCK_SIZE)))
    return _chosen(found, code)


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


def _chosen(found: list[Value], code: Value) -> Value:
    padding = [found[-1]] * (8 - FIRST_CODE - len(found))
    return Array([found[0]] * FIRST_CODE + found + padding)[code[:3]]
