"""Pieces written at any address, and one master for several users."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from gatecast.rtl.external import MemoryMaster, PieceWriter
from gatecast.rtl.reader import Reader

CONTENT = np.random.default_rng(7).integers(0, 256, 512, np.uint8).tobytes()
STALLS = pytest.mark.parametrize("stall", [0.0, 0.6], ids=["free-running", "back-pressure"])


@STALLS
def test_pieces_are_written_and_nothing_beside_them(simulate, external_memory, stall):
    rng, unit, memory = np.random.default_rng(3), PieceWriter(), external_memory(CONTENT, stall)
    expected = bytearray(CONTENT)
    pieces = [(2 * int(a), 2 * int(n)) for a, n in rng.integers(1, (224, 9), (25, 2))]
    pieces += [(0, 16), (28, 16), (16, 16), (2, 14), *((int(a), 1) for a in rng.integers(0, 448, 15))]

    async def bench(ctx):
        for address, count in pieces:
            data = rng.integers(0, 256, 16, np.uint8).tobytes() if count > 1 else 2 * rng.bytes(1)
            expected[address : address + count] = data[:count]
            code = int.from_bytes(data, "little")
            ctx.set(unit.i.payload, {"address": address, "bytes": count, "data": code})
            ctx.set(unit.i.valid, 1)
            await ctx.tick().until(unit.i.ready)
            ctx.set(unit.i.valid, 0)
        while not ctx.get(unit.idle):
            await ctx.tick()

    simulate(unit, bench, background=[memory.serve(unit.request, None)])
    assert memory.bytes == expected


class Users(wiring.Component):
    """Two readers and a writer at one master."""

    def __init__(self):
        self.master = MemoryMaster(("first", "second", "third"), writers=("third",))
        self.first, self.second, self.third = Reader({"only": 1}), Reader({"only": 1}), PieceWriter()
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.master = self.master
        for name in ("first", "second", "third"):
            m.submodules[name] = unit = getattr(self, name)
            wiring.connect(m, unit.request, getattr(self.master, f"{name}_request"))
            if name != "third":
                wiring.connect(m, unit.response, getattr(self.master, f"{name}_response"))
        return m


def watch(request, stable):
    """Note in each cycle whether what is offered has stayed until it was taken."""

    async def body(ctx):
        before = None
        while True:
            offered = ctx.get(request.payload.address) if ctx.get(request.valid) else None
            stable.append(before is None or before == offered)
            before = offered if not ctx.get(request.ready) else None
            await ctx.tick()

    return body


@STALLS
def test_each_user_gets_its_own_answers(simulate, external_memory, stall):
    users, memory = Users(), external_memory(CONTENT, stall)
    found = {"first": [], "second": []}
    stable = []

    def reader(name, addresses):
        unit = getattr(users, name)

        async def body(ctx):
            ctx.set(unit.only_found.ready, 1)
            for address in addresses:
                ctx.set(unit.only_ask.payload, {"address": address, "raw": 1})
                ctx.set(unit.only_ask.valid, 1)
                await ctx.tick().until(unit.only_ask.ready)
                ctx.set(unit.only_ask.valid, 0)

        async def collect(ctx):
            while len(found[name]) < len(addresses):
                if ctx.get(unit.only_found.valid):
                    found[name].append(ctx.get(unit.only_found.payload.piece).to_bytes(16, "little"))
                await ctx.tick()

        return body, collect

    async def writes(ctx):
        for number in range(10):
            code = int.from_bytes(CONTENT[16 * number : 16 * number + 16], "little")
            ctx.set(users.third.i.payload, {"address": 256 + 16 * number, "bytes": 16, "data": code})
            ctx.set(users.third.i.valid, 1)
            await ctx.tick().until(users.third.i.ready)
            ctx.set(users.third.i.valid, 0)
        while not ctx.get(users.third.idle) or ctx.get(users.master.request.valid):
            await ctx.tick()

    addresses = {"first": list(range(0, 200, 20)), "second": list(range(100, 220, 12))}
    benches = [bench for name in found for bench in reader(name, addresses[name])]
    serve = memory.serve(users.master.request, users.master.response)
    simulate(users, *benches, writes, background=[serve, watch(users.master.request, stable)])
    for name, got in found.items():
        assert got == [CONTENT[a : a + 16] for a in addresses[name]], name
    assert memory.bytes[256:416] == CONTENT[:160]
    assert all(stable)
