"""The matrix-vector unit against sums of numerics, with bubbles between steps."""

import numpy as np
import pytest

from gatecast.rtl.float_accumulator import sum_value
from gatecast.rtl.lane import LaneDesign
from gatecast.rtl.matrix_vector import ACTIVATION_LATENCY, MatrixVector


def block_code(mantissas, exponent):
    return int.from_bytes(mantissas.tobytes() + bytes([exponent]), "little")


def random_blocks(rng, *shape):
    mantissas = rng.integers(-127, 128, (*shape, 32)).astype(np.int8)
    return mantissas, (127 + rng.integers(-4, 5, shape)).astype(np.uint8)


class Bench:
    """A unit, the blocks that are on their way to it, and bubbles between its steps."""

    def __init__(self, unit, bubbles, rng):
        self.unit, self.bubbles, self.rng = unit, bubbles, rng
        self.blocks = [0] * ACTIVATION_LATENCY

    async def tick(self, ctx, block=0, **control):
        self.blocks.append(block)
        self.unit_set(ctx, control)
        await ctx.tick()

    def unit_set(self, ctx, control):
        ctx.set(self.unit.activation, self.blocks.pop(0))
        ctx.set(self.unit.step, {"valid": 0} | control)

    async def load(self, ctx, mantissas, exponents):
        unit = self.unit
        for step, channel in np.ndindex(exponents.shape):
            address = step * unit.passes + channel // unit.lanes
            code = block_code(mantissas[step, channel], exponents[step, channel])
            place = {"enable": 1, "lane": channel % unit.lanes, "address": address}
            for high in range(2):
                half, exponent = code >> 128 * high & (1 << 128) - 1, code >> 256
                ctx.set(unit.written, {**place, "high": high, "half": half, "exponent": exponent})
                await ctx.tick()
        ctx.set(unit.written, {"enable": 0})
        await ctx.tick().repeat(3)

    async def step(self, ctx, control, block):
        while self.rng.random() < self.bubbles:
            await self.tick(ctx)
        await self.tick(ctx, block, **control)

    async def sums(self, ctx, pixels):
        """Wait for the last sum, then read them all: ``[pixels, 32]``."""
        for _ in range(self.unit.drain):
            await self.tick(ctx)
            if ctx.get(self.unit.finished):
                break
        found = np.zeros((pixels, self.unit.passes, self.unit.lanes), np.float32)
        for turn, part in np.ndindex(pixels, self.unit.passes):
            ctx.set(self.unit.read_result, turn * self.unit.passes + part)
            await ctx.tick().repeat(2)
            found[turn, part] = [sum_value(ctx.get(self.unit.results[n])) for n in range(self.unit.lanes)]
        return found.reshape(pixels, 32)


@pytest.mark.parametrize(
    ("lanes", "pixels", "bubbles", "cells"),
    [(4, 3, 0.1, False), (4, 7, 0.0, False), (8, 8, 0.1, False), (4, 3, 0.1, True)],
)
def test_sums_of_a_tile(simulate, modelled, lanes, pixels, bubbles, cells):
    rng, steps = np.random.default_rng(lanes + pixels), 3
    unit = MatrixVector(lanes, 8, 16, LaneDesign(7, 12, cells))
    bench, found = Bench(unit, bubbles, rng), []
    panels, activations = random_blocks(rng, steps, 32), random_blocks(rng, pixels, steps)
    zero = rng.random((pixels, steps)) < 0.2

    def control(part, step, turn):
        return {
            "valid": turn < pixels,
            "load": turn == 0,
            "panel": step * unit.passes + part,
            "slot": turn,
            "first": step == 0,
            "last": step == steps - 1,
            "zero": int(turn < pixels and zero[turn, step]),
            "result": turn * unit.passes + part,
            "final": turn == pixels - 1 and part == unit.passes - 1,
        }

    async def run(ctx):
        await bench.load(ctx, *panels)
        for part, step, turn in np.ndindex(unit.passes, steps, max(pixels, unit.latency)):
            block = block_code(*(a[min(turn, pixels - 1), step] for a in activations))
            await bench.step(ctx, control(part, step, turn), block)
        found.append(await bench.sums(ctx, pixels))

    simulate(unit, run)
    expected = unit.model(np.zeros((pixels, 32), np.float32), activations, panels, zero)
    assert found[0].tobytes() == expected.tobytes()
