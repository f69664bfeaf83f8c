"""Mantissas of every format, packed and unpacked."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gatecast.isa import format_code
from gatecast.numerics import FORMATS
from gatecast.rtl.packing import block_bytes, packed, packed_model, unpacked, unpacked_model


class Packing(wiring.Component):
    latency = 0

    def __init__(self, pack, most=8):
        self.pack, self.most = pack, most
        super().__init__({"i": In(256), "code": In(4), "o": Out(256), "bytes": Out(6)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq((packed if self.pack else unpacked)(self.i, self.code, self.most))
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

    got = through(Packing(False, fmt.bits), inputs(codes))
    assert [value.to_bytes(32, "little") for value in got] == blocks
    got = through(Packing(True), inputs(blocks))
    assert [value.to_bytes(32, "little")[: fmt.block_bytes] for value in got] == codes
    assert through(Packing(True), inputs(blocks[:1]), "bytes") == [fmt.block_bytes]
