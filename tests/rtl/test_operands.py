"""Operands: read through a shared memory, decoded, in order."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring

from gatecast.rtl.block_dot import BLOCK_BITS
from gatecast.rtl.operands import Operands
from gatecast.rtl.shared_memory import SharedMemory


class Bench(wiring.Component):
    """Operands beside a more urgent reader that takes its turns."""

    def __init__(self, values):
        self.operands = Operands(values, 4, 7)
        self.blocks = SharedMemory(BLOCK_BITS, 16, ("other", "operands"), ("host",))
        self.words = SharedMemory(128, 128, ("operands",), ("host",))
        self.other = Signal()
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.operands, m.submodules.blocks, m.submodules.words = (
            self.operands,
            self.blocks,
            self.words,
        )
        wiring.connect(m, self.operands.blocks, self.blocks.read_operands)
        wiring.connect(m, self.operands.words, self.words.read_operands)
        m.d.comb += self.blocks.read_other.valid.eq(self.other)
        return m


@pytest.mark.parametrize("stall", [0.0, 0.5], ids=["free-running", "back-pressure"])
@pytest.mark.parametrize("values", [1, 2, 4])
def test_rows_come_decoded_in_the_order_of_requests(simulate, values, stall):
    rng, bench = np.random.default_rng(values), Bench(values)
    mantissas = rng.integers(-127, 128, (16, 32)).astype(np.int8)
    mantissas[0], mantissas[1, ::2], mantissas[2] = 0, 0, np.arange(32) * 8 - 128 + 8
    exponents = rng.integers(79, 176, 16).astype(np.uint8)
    vectors = rng.normal(size=(16, 32)).astype(np.float32)
    requests = [(int(v), int(a), int(t)) for v, a, t in rng.integers(0, (2, 16, 4), (12, 3))]
    found = []

    async def write(ctx, port, words):
        ctx.set(port.valid, 1)
        for address, word in enumerate(words):
            ctx.set(port.address, address)
            ctx.set(port.data, word)
            await ctx.tick().until(port.ready)
        ctx.set(port.valid, 0)

    async def ask(ctx):
        blocks = [m.tobytes() + bytes([e]) for m, e in zip(mantissas, exponents, strict=True)]
        await write(ctx, bench.blocks.write_host, [int.from_bytes(b, "little") for b in blocks])
        words = vectors.reshape(-1, 4)
        await write(ctx, bench.words.write_host, [int.from_bytes(w.tobytes(), "little") for w in words])
        await ctx.tick().repeat(2)
        for vector, address, tag in requests:
            ctx.set(bench.operands.i.payload, {"vector": vector, "address": address, "tag": tag})
            ctx.set(bench.operands.i.valid, 1)
            await ctx.tick().until(bench.operands.i.ready)
            ctx.set(bench.operands.i.valid, 0)

    async def collect(ctx):
        o = bench.operands.o
        while len(found) < len(requests) * 32 // values:
            ready = rng.random() >= stall
            ctx.set(o.ready, ready)
            ctx.set(bench.other, rng.random() < 0.3)
            if ready and ctx.get(o.valid):
                found.append(([ctx.get(o.payload.values[i]) for i in range(values)], ctx.get(o.payload.tag)))
            await ctx.tick()

    simulate(bench, ask, collect)
    model = bench.operands.model
    for number, (vector, address, tag) in enumerate(requests):
        rows = found[number * 32 // values : (number + 1) * 32 // values]
        got = np.array([row for row, _ in rows], np.uint32).view(np.float32).reshape(-1)
        expected = vectors[address] if vector else model(mantissas[address], int(exponents[address]))
        assert got.tobytes() == expected.tobytes(), (number, vector)
        assert {t for _, t in rows} == {tag}
