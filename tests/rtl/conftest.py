import numpy as np
import pytest
from amaranth.sim import Simulator

CLOCK = 1e-6


def f32(bits):
    return np.asarray(bits, np.uint32).view(np.float32)


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32)


@pytest.fixture
def simulate():
    """Run test benches on a component until all have ended; a deadline keeps a lost transfer from hanging."""

    def run(dut, *benches, deadline=20_000, processes=()):
        simulator = Simulator(dut)
        simulator.add_clock(CLOCK)
        ended = []

        def counted(bench):
            async def body(ctx):
                await bench(ctx)
                ended.append(bench)

            return body

        for bench in benches:
            simulator.add_testbench(counted(bench))
        for process in processes:
            simulator.add_process(process)
        simulator.run_until(deadline * CLOCK)
        assert len(ended) == len(benches), "a test bench did not come to its end"

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
