"""The matrix-vector unit against sums of numerics, with bubbles between steps."""

import numpy as np
import pytest

from gatecast.numerics import FORMATS, decode_blocks
from gatecast.rtl.lane import LaneDesign
from gatecast.rtl.matrix_vector import ACTIVATION_LATENCY, MatrixVector

BFP8 = FORMATS["bfp8"]


def block_code(mantissas, exponent):
    return int.from_bytes(mantissas.tobytes() + bytes([exponent]), "little")


def random_blocks(rng, *shape):
    mantissas = rng.integers(-127, 128, (*shape, 32)).astype(np.int8)
    return mantissas, (127 + rng.integers(-4, 5, shape)).astype(np.uint8)


@pytest.mark.parametrize(
    ("lanes", "pixels", "bubbles", "multipliers"), [(4, 7, 0, 32), (8, 7, 0.1, 32), (4, 3, 0.3, 32)]
)
def test_sums_of_a_tile(simulate, lanes, pixels, bubbles, multipliers):
    rng = np.random.default_rng(lanes + pixels)
    unit, steps = MatrixVector(lanes, 8, 16, LaneDesign(7, 12, multipliers)), 3
    panels = random_blocks(rng, steps, 32)
    activations = random_blocks(rng, pixels, steps)
    zero = rng.random((pixels, steps)) < 0.2
    found = np.zeros((pixels, 32), np.float32)
    blocks = [0] * ACTIVATION_LATENCY  # in flight

    async def tick(ctx, block=0):
        blocks.append(block)
        ctx.set(unit.activation, blocks.pop(0))
        await ctx.tick()

    async def bench(ctx):
        for step in range(steps):
            for channel in range(32):
                place = {
                    "enable": 1,
                    "lane": channel % lanes,
                    "address": step * unit.passes + channel // lanes,
                }
                code = block_code(panels[0][step, channel], panels[1][step, channel])
                ctx.set(unit.written, place | {"block": code})
                await ctx.tick()
        ctx.set(unit.written, {"enable": 0})
        await ctx.tick().repeat(2)
        for part in range(unit.passes):
            for step in range(steps):
                for turn in range(max(pixels, unit.latency)):
                    while rng.random() < bubbles:
                        ctx.set(unit.step, {"valid": 0})
                        await tick(ctx)
                    if turn >= pixels:
                        ctx.set(unit.step, {"valid": 0})
                        await tick(ctx)
                        continue
                    control = {
                        "valid": 1,
                        "load": turn == 0,
                        "panel": step * unit.passes + part,
                        "slot": turn,
                        "first": step == 0,
                        "last": step == steps - 1,
                        "zero": int(zero[turn, step]),
                        "result": turn * unit.passes + part,
                        "final": turn == pixels - 1 and part == unit.passes - 1,
                    }
                    ctx.set(unit.step, control)
                    await tick(ctx, block_code(activations[0][turn, step], activations[1][turn, step]))
        ctx.set(unit.step, {"valid": 0})
        for _ in range(unit.drain):
            blocks.append(0)
            ctx.set(unit.activation, blocks.pop(0))
            if ctx.get(unit.finished):
                break
            await ctx.tick()
        else:
            return
        for turn in range(pixels):
            for part in range(unit.passes):
                ctx.set(unit.read_result, turn * unit.passes + part)
                await ctx.tick().repeat(2)
                for lane in range(lanes):
                    code = ctx.get(unit.results[lane])
                    significand = (code & (1 << 26) - 1) - ((code >> 25 & 1) << 26)
                    found[turn, part * lanes + lane] = significand * 2.0 ** ((code >> 26) - 150)

    simulate(unit, bench)
    values = decode_blocks(*activations, BFP8)
    values[zero] = 0
    weights = decode_blocks(*panels, BFP8)
    expected = np.zeros((pixels, 32), np.float32)
    for step in range(steps):
        expected += values[:, step] @ weights[step].T
    assert found.tobytes() == expected.tobytes()
