"""A pair of lanes, their dot products and their sums together, against `numerics`."""

import numpy as np
import pytest

from gatecast.numerics import BFP8, EXPONENT_BIAS, Block
from gatecast.rtl.float_accumulator import sum_value
from gatecast.rtl.lane import LaneDesign, LanePair

PRESETS = {(127 << 26) | (-3 << 22) % (1 << 26): -1.5, (128 << 26) | (3 << 22): 3.0}
"""For each lane a sum that is set, and the number that it stands for."""


def random_block(rng):
    mantissas = rng.integers(-127, 128, 32)
    mantissas[rng.random(32) < 0.2] = rng.choice([-127, 0, 127])
    return Block(BFP8, int(rng.integers(-5, 6)), tuple(int(m) for m in mantissas))


def code(block, signs):
    """Bytes of mantissas, with `signs` as sign and magnitude."""
    parts = [128 | -m if signs and m < 0 else m & 255 for m in block.mantissas]
    return int.from_bytes(bytes(parts), "little")


@pytest.mark.parametrize(("latency", "cells"), [(5, False), (7, False), (7, True), (9, False)])
def test_sums_that_take_turns_equal_numerics(simulate, modelled, latency, cells):
    """Bubbles between steps change nothing; a sum that was preset goes on from there."""
    rng, unit = np.random.default_rng(latency), LanePair(LaneDesign(latency, 12, cells))
    totals = np.zeros((12, 2), np.float32)
    totals[3] = list(PRESETS.values())
    fed, found, expected = [], [], []
    for number in range(120):
        if rng.random() < 0.1:
            fed.append(None)
        slot, a, w0, w1 = number % latency, *(random_block(rng) for _ in range(3))
        first = number < latency and slot != 3
        totals[slot] = [unit.model(total, a, w) for total, w in zip(totals[slot], (w0, w1), strict=True)]
        expected.append(totals[slot].copy())
        fed.append((slot, first, {"a": a, "w0": w0, "w1": w1}))
    at_read, at_write = unit.read_latency, unit.read_latency + latency - 1

    def step(cycle):
        return fed[cycle] if 0 <= cycle < len(fed) else None

    async def bench(ctx):
        ctx.set(unit.take, 1)
        ctx.set(unit.preset, 1)
        ctx.set(unit.preset_slot, 3)
        for lane, preset in enumerate(PRESETS):
            ctx.set(getattr(unit, f"preset_sum{lane}"), preset)
        await ctx.tick()
        ctx.set(unit.preset, 0)
        for cycle in range(len(fed) + at_write):
            for name, block in (step(cycle)[2] if step(cycle) else {}).items():
                ctx.set(getattr(unit, name), code(block, cells))
                ctx.set(getattr(unit, f"{name[0]}_exponent{name[1:]}"), block.exponent + EXPONENT_BIAS)
            if reads := step(cycle - at_read):
                ctx.set(unit.read_slot, reads[0])
                ctx.set(unit.first, reads[1])
            writes = step(cycle - at_write)
            ctx.set(unit.write, writes is not None)
            if writes:
                ctx.set(unit.write_slot, writes[0])
                found.append([sum_value(ctx.get(x)) for x in (unit.sum0, unit.sum1)])
            await ctx.tick()

    simulate(unit, bench, deadline=len(fed) + 100)
    assert np.array(found, np.float32).tobytes() == np.array(expected, np.float32).tobytes()


def test_sums_that_are_preset_are_the_numbers_they_stand_for():
    assert [sum_value(preset) for preset in PRESETS] == list(PRESETS.values())
