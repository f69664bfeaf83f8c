"""One lane, its dot product and its sums together, against `numerics`."""

import numpy as np
import pytest

from gatecast.numerics import BFP8, EXPONENT_BIAS, Block
from gatecast.rtl.float_accumulator import sum_value
from gatecast.rtl.lane import Lane, LaneDesign


def random_block(rng):
    mantissas = rng.integers(-127, 128, 32)
    mantissas[rng.random(32) < 0.2] = rng.choice([-127, 0, 127])
    return Block(BFP8, int(rng.integers(-5, 6)), tuple(int(m) for m in mantissas))


def code(block, multipliers):
    """Bytes of mantissas, sign and magnitude where there is no multiplier."""
    parts = [m & 255 if i < multipliers or m >= 0 else 128 | -m for i, m in enumerate(block.mantissas)]
    return int.from_bytes(bytes(parts), "little")


@pytest.mark.parametrize(("latency", "multipliers"), [(5, 32), (7, 16), (7, 32), (9, 24)])
def test_sums_that_take_turns_equal_numerics(simulate, latency, multipliers):
    """Bubbles between steps change nothing; a sum that was preset goes on from there."""
    rng, unit = np.random.default_rng(latency), Lane(LaneDesign(latency, 12, multipliers))
    totals = [np.float32(0)] * 12
    totals[3] = np.float32(-1.5)
    preset = (127 << 26) | (-3 << 22) % (1 << 26)
    fed, found, expected = [], [], []
    for number in range(120):
        if rng.random() < 0.1:
            fed.append(None)
        slot, a, w = number % latency, random_block(rng), random_block(rng)
        first = number < latency and slot != 3
        totals[slot] = unit.model(totals[slot], a, w)
        expected.append(totals[slot])
        fed.append((slot, first, a, w))
    at_read, at_write = unit.read_latency, unit.read_latency + latency - 1

    def step(cycle):
        return fed[cycle] if 0 <= cycle < len(fed) else None

    async def bench(ctx):
        ctx.set(unit.take, 1)
        ctx.set(unit.preset, 1)
        ctx.set(unit.preset_slot, 3)
        ctx.set(unit.preset_sum, preset)
        await ctx.tick()
        ctx.set(unit.preset, 0)
        for cycle in range(len(fed) + at_write):
            for name, block in zip("aw", step(cycle)[2:] if step(cycle) else (), strict=False):
                ctx.set(getattr(unit, name), code(block, multipliers))
                ctx.set(getattr(unit, f"{name}_exponent"), block.exponent + EXPONENT_BIAS)
            if reads := step(cycle - at_read):
                ctx.set(unit.read_slot, reads[0])
                ctx.set(unit.first, reads[1])
            writes = step(cycle - at_write)
            ctx.set(unit.write, writes is not None)
            if writes:
                ctx.set(unit.write_slot, writes[0])
                found.append(sum_value(ctx.get(unit.sum)))
            await ctx.tick()

    simulate(unit, bench, deadline=len(fed) + 100)
    assert np.array(found, np.float32).tobytes() == np.array(expected, np.float32).tobytes()


def test_a_sum_that_is_preset_is_the_number_it_stands_for():
    assert sum_value((127 << 26) | (-3 << 22) % (1 << 26)) == np.float32(-1.5)
