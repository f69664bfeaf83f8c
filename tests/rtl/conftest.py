from functools import partial

import numpy as np
import pytest
from amaranth.sim import Simulator

CLOCK = 1e-6


def f32(bits):
    return np.asarray(bits, np.uint32).view(np.float32)


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32)


async def _body(bench, ctx):
    """A bench as a coroutine function, which Amaranth asks for."""
    await bench(ctx)


@pytest.fixture
def simulate():
    """Run test benches on a component until all have ended; a deadline keeps a lost transfer from hanging."""

    def run(dut, *benches, deadline=20_000, background=()):
        async def limit(ctx):
            await ctx.delay(deadline * CLOCK)
            pytest.fail(f"a test bench has not come to its end in {deadline} cycles")

        simulator = Simulator(dut)
        simulator.add_clock(CLOCK)
        for bench in benches:
            simulator.add_testbench(partial(_body, bench))
        for bench in (*background, limit):
            simulator.add_testbench(bench, background=True)
        simulator.run()

    return run


@pytest.fixture
def through(simulate):
    """Send one set of inputs each cycle through a pipeline without valid or ready; list what comes out."""

    def run(dut, inputs, output="o"):
        outputs = []

        async def bench(ctx):
            for number in range(len(inputs) + dut.latency):
                if number < len(inputs):
                    for name, value in inputs[number].items():
                        ctx.set(getattr(dut, name), value)
                if number >= dut.latency:
                    outputs.append(ctx.get(getattr(dut, output)))
                await ctx.tick()

        simulate(dut, bench, deadline=len(inputs) + dut.latency + 10)
        return outputs

    return run


class ExternalMemory:
    """Answers the beats of a request and a response stream, with stalls on both sides."""

    def __init__(self, content, stall=0.0, seed=0):
        self.bytes, self.stall, self.rng = bytearray(content), stall, np.random.default_rng(seed)
        self.reads = self.writes = 0
        self.under_way = []

    def takes(self, address, write, data, mask):
        """Do one beat."""
        assert address % 16 == 0 and address + 16 <= len(self.bytes)
        self.reads, self.writes = self.reads + (not write), self.writes + write
        if not write:
            self.under_way.append(int.from_bytes(self.bytes[address : address + 16], "little"))
            return
        for i in range(16):
            if mask >> i & 1:
                self.bytes[address + i] = data >> 8 * i & 255

    def serve(self, request, response):
        """Test bench for streams of `gatecast.rtl.external`; it never ends."""

        async def body(ctx):
            while True:
                ready = self.rng.random() >= self.stall
                ctx.set(request.ready, ready)
                answer = bool(self.under_way) and self.rng.random() >= self.stall
                if response is not None:
                    ctx.set(response.valid, answer)
                    ctx.set(response.payload, self.under_way[0] if answer else 0)
                if ready and ctx.get(request.valid):
                    p = request.payload
                    self.takes(*(ctx.get(value) for value in (p.address, p.write, p.data, p.mask)))
                if answer and ctx.get(response.ready):
                    self.under_way.pop(0)
                await ctx.tick()

        return body


@pytest.fixture
def external_memory():
    return ExternalMemory
