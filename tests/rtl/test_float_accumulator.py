"""The accumulator against sums in NumPy, step by step, bit for bit."""

import numpy as np
import pytest

from gatecast.rtl.float_accumulator import PIPELINES, FloatAccumulator, sum_value

SLOTS = 16


def next_addend(rng, kind, total):
    """A dot product and a sum of exponent bytes that are awkward for the sum so far."""
    top = int(np.frexp(np.float64(total))[1]) if total else 0
    sign = -1 if total > 0 else 1

    def limited(dot, scale):
        return int(np.clip(dot, -516128, 516128)), int(np.clip(scale + 266, 158, 350))

    match kind:
        case 0:  # typical
            return int(rng.normal() * 20000), int(rng.integers(245, 260))
        case 1:  # cancel all that 19 bits can, sometimes one off
            scale = top - int(rng.integers(17, 20))
            return limited(
                -int(np.rint(np.ldexp(np.float64(total), -scale))) + int(rng.integers(-1, 2)), scale
            )
        case 2:  # around half a step: ties and their neighbours
            return limited(int(rng.integers(-9, 10)), top - 24 - int(rng.integers(0, 4)))
        case 3:  # far below or far above
            return limited(int(rng.integers(-516128, 516129)), top + int(rng.integers(-60, 12)))
        case 4:  # corners
            return int(rng.choice((-516128, -1, 0, 0, 1, 516128))), int(rng.choice((158, 159, 254, 349, 350)))
        case 5:  # fill the significand up to a carry of the rounding
            return limited(
                -sign * int(rng.integers(1, 1 << int(rng.integers(1, 19)))), top - int(rng.integers(18, 28))
            )
    return int(rng.integers(-516128, 516129)), int(rng.integers(158, 351))


def steps(unit, seed, count):
    """Per cycle: valid, first, slot, dot, exponent, expected sum; as few slots take turns as may."""
    rng = np.random.default_rng(seed)
    totals, fresh, slot, kind = [np.float32(0)] * SLOTS, [True] * SLOTS, 0, 0
    for _ in range(count):
        if rng.random() < 0.02:
            yield 0, 0, 0, int(rng.integers(1 << 19)), 300, None
            continue
        kind = int(rng.integers(0, 7)) if rng.random() < 0.3 else kind
        first = fresh[slot] or rng.random() < 0.02
        fresh[slot] = False
        before = np.float32(0) if first else totals[slot]
        dot, exponent = next_addend(rng, kind, before)
        totals[slot] = unit.model(before, dot, exponent)
        yield 1, int(first), slot, dot, exponent, totals[slot]
        slot = (slot + 1) % max(unit.latency, 2)


@pytest.mark.parametrize("latency", PIPELINES)
def test_each_sum_equals_numpy(simulate, latency):
    unit = FloatAccumulator(latency, SLOTS)
    fed = list(steps(unit, latency, 3000 if latency == 7 else 1000))
    at_read, at_write = unit.read_latency, unit.read_latency + unit.latency - 1
    found = []

    async def bench(ctx):
        for cycle in range(len(fed) + at_write):
            if cycle < len(fed):
                ctx.set(unit.dot, fed[cycle][3])
                ctx.set(unit.exponent, fed[cycle][4])
            if at_read <= cycle < len(fed) + at_read:
                ctx.set(unit.first, fed[cycle - at_read][1])
                ctx.set(unit.read_slot, fed[cycle - at_read][2])
            ctx.set(unit.write, 0)
            if cycle >= at_write and fed[cycle - at_write][0]:
                ctx.set(unit.write, 1)
                ctx.set(unit.write_slot, fed[cycle - at_write][2])
                found.append(ctx.get(unit.sum))
            await ctx.tick()

    simulate(unit, bench, deadline=len(fed) + 100)
    expected = [step[5] for step in fed if step[0]]
    assert [sum_value(code).tobytes() for code in found] == [total.tobytes() for total in expected]
