"""Mantissas of every format, packed and unpacked."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gatecast.isa import format_code
from gatecast.numerics import FORMATS
from gatecast.rtl.packing import (
    FIRST_CODE,
    RAW,
    block_bytes,
    half_bytes,
    packed,
    packed_model,
    unpacked,
    unpacked_model,
)


class Packing(wiring.Component):
    latency = 0

    def __init__(self, pack, most=8):
        self.pack, self.most = pack, most
        super().__init__({"i": In(128), "code": In(4), "o": Out(128), "bytes": Out(6), "half": Out(5)})

    def elaborate(self, platform):
        m = Module()
        formats = (1 << (self.code - FIRST_CODE)[:3])[: len(FORMATS)]
        m.d.comb += self.o.eq((packed if self.pack else unpacked)(self.i, formats, self.most))
        m.d.comb += self.half.eq(half_bytes(self.code))
        m.d.comb += self.bytes.eq(block_bytes(m, self.code))
        m.d.sync += Signal(name="unused").eq(0)
        return m


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=str)
def test_every_format(through, fmt):
    rng, code = np.random.default_rng(fmt.bits), format_code(fmt.name)
    codes = [rng.integers(0, 256, fmt.block_bytes, np.uint8).tobytes() for _ in range(20)]
    blocks = [unpacked_model(c, fmt.bits) for c in codes]
    assert [packed_model(b, fmt.bits) for b in blocks] == codes

    def inputs(values):
        return [{"i": int.from_bytes(v, "little"), "code": code} for v in values]

    half = fmt.block_bytes // 2
    halves = [code[at : at + half] for code in codes for at in (0, half)]
    mantissas = [block[at : at + 16] for block in blocks for at in (0, 16)]
    got = through(Packing(False, fmt.bits), inputs(halves))
    assert [value.to_bytes(16, "little") for value in got] == mantissas
    got = through(Packing(True), inputs(mantissas))
    assert [value.to_bytes(16, "little")[:half] for value in got] == halves
    assert all(value >> 8 * half == 0 for value in got)
    assert through(Packing(True), inputs(mantissas[:1]), "bytes") == [fmt.block_bytes]
    assert through(Packing(True), inputs(mantissas[:1]), "half") == [half]


@pytest.mark.parametrize("most", [4, 6])
def test_bytes_stay_as_they_are_however_narrow_the_formats(through, most):
    data = np.random.default_rng(most).integers(0, 256, 16, np.uint8).tobytes()
    raw = {"i": int.from_bytes(data, "little"), "code": RAW}
    assert through(Packing(False, most), [raw])[0].to_bytes(16, "little") == data
    assert through(Packing(True, most), [raw])[0].to_bytes(16, "little") == data
