from functools import partial

import numpy as np
import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.sim import Simulator

from gatecast.rtl import carry_cells, multiplier_cells

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
    """Send one set of inputs each cycle through a pipeline without valid or ready; list what comes out.

    What is asked for is one output, or a tuple of them.
    """

    def run(dut, inputs, output="o"):
        outputs, names = [], output if isinstance(output, tuple) else (output,)

        async def bench(ctx):
            for number in range(len(inputs) + dut.latency):
                if number < len(inputs):
                    for name, value in inputs[number].items():
                        ctx.set(getattr(dut, name), value)
                if number >= dut.latency:
                    found = tuple(ctx.get(getattr(dut, name)) for name in names)
                    outputs.append(found if isinstance(output, tuple) else found[0])
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


class CarryCell(Elaboratable):
    """CCU2C with INJECT1 = NO: each half adds by its LUT4, and its LUT2 decides the carry."""

    def __init__(self, kind, **ports):
        assert kind == "CCU2C" and ports["p_INJECT1_0"] == ports["p_INJECT1_1"] == "NO"
        self.ports = ports

    def elaborate(self, platform):
        m, ports, carry = Module(), self.ports, self.ports["i_CIN"]
        for half in "01":
            a, b, c, d = (ports[f"i_{pin}{half}"] for pin in "ABCD")
            table = Value.cast(ports[f"p_INIT{half}"])
            propagates = table.bit_select(Cat(a, b, c, d), 1)
            generates = table.bit_select(Cat(a, b, 0, 0)[:4], 1)
            m.d.comb += ports[f"o_S{half}"].eq(propagates ^ carry)
            carry = Mux(propagates, carry, generates)
        m.d.comb += ports["o_COUT"].eq(carry)
        return m


class MultiplierCell(Elaboratable):
    """MULT18X18D with the registers that its parameters ask for, of clock CLK0 and its own enables."""

    def __init__(self, kind, **ports):
        assert kind == "MULT18X18D"
        self.ports = ports

    def elaborate(self, platform):
        m, ports = Module(), self.ports
        a, b = (self.registered(m, f"INPUT{name}", self.operand(name)) for name in "AB")
        inner = self.registered(m, "PIPELINE", a * b)
        product = self.registered(m, "OUTPUT", inner)
        m.d.comb += [ports[f"o_P{i}"].eq(product[i]) for i in range(36)]
        return m

    def operand(self, name):
        assert Value.cast(self.ports[f"i_SIGNED{name}"]).value == 0
        assert Value.cast(self.ports[f"i_SOURCE{name}"]).value == 0
        return Cat(self.ports[f"i_{name}{i}"] for i in range(18))

    def registered(self, m, name, value):
        if self.ports.get(f"p_REG_{name}_CLK", "NONE") == "NONE":
            return value
        assert self.ports[f"p_REG_{name}_CLK"] == "CLK0"
        register = Signal(len(value), name=name.lower())
        with m.If(self.ports[f"i_{self.ports[f'p_REG_{name}_CE']}"]):
            m.d.sync += register.eq(value)
        return register


@pytest.fixture
def modelled(monkeypatch):
    """Models of an ECP5's cells in their place."""
    monkeypatch.setattr(carry_cells, "Instance", CarryCell)
    monkeypatch.setattr(multiplier_cells, "Instance", MultiplierCell)
