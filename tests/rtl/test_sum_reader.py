"""Sums from the result memory: rows in order, one pixel after another, whatever pace both sides keep."""

import numpy as np
import pytest

from gatecast.rtl.float_accumulator import sum_value
from gatecast.rtl.sum_reader import RESULT_LATENCY, SumReader

CORNERS = (0.0, 1.0, -1.0, 2.0**-60, -(2.0**60), 2.0 - 2.0**-23, -2.0 + 2.0**-23)


def random_sum(rng):
    """A sum as an accumulator holds it; 2**24 of one exponent is 2**23 of the next."""
    exponent = int(rng.integers(80, 180))
    significand = int(rng.choice([1 << 23, (1 << 24) - 1, 1 << 24, int(rng.integers(1 << 23, 1 << 24))]))
    return 0 if rng.random() < 0.1 else exponent << 26 | int(rng.choice([-1, 1])) * significand % (1 << 26)


class ResultMemory:
    """What is behind the port: a word is read when its address is seen, and comes two cycles later."""

    def __init__(self, unit, rng):
        self.unit, self.rng = unit, rng
        self.words = [self._word() for _ in range(unit.ring * unit.passes)]
        self.line = [0] * RESULT_LATENCY
        self.written = self.freed = 0

    def _word(self):
        return [random_sum(self.rng) for _ in range(self.unit.lanes)]

    def _of(self, pixel):
        start = pixel % self.unit.ring * self.unit.passes
        return range(start, start + self.unit.passes)

    def write(self):
        """One more pixel; returns its sums in the order of channels."""
        for place in self._of(self.written):
            self.words[place] = self._word()
        self.written += 1
        return [code for place in self._of(self.written - 1) for code in self.words[place]]

    def free(self):
        """A pixel has been read: others may take its place at once."""
        for place in self._of(self.freed):
            self.words[place] = self._word()
        self.freed += 1

    def answer(self, ctx):
        """Advance the port by a cycle."""
        self.line.append(sum(code << 34 * i for i, code in enumerate(self.words[ctx.get(self.unit.address)])))
        ctx.set(self.unit.word.as_value(), self.line.pop(0))


@pytest.mark.parametrize("stall", [0.0, 0.4, 0.9], ids=["free-running", "back-pressure", "slow-reader"])
@pytest.mark.parametrize(
    ("lanes", "ring", "values"), [(4, 8, 1), (4, 4, 4), (8, 16, 2), (8, 2, 1), (16, 4, 4), (32, 8, 2)]
)
def test_rows_come_in_the_order_of_pixels_and_channels(simulate, lanes, ring, values, stall):
    rng, pixels = np.random.default_rng(lanes + values), 3 * ring if ring < 8 else ring + 5
    unit = SumReader(lanes, 32 // lanes, ring, values)
    memory, sums, found, faults = ResultMemory(unit, rng), [], [], []

    async def bench(ctx):
        burst = 0
        while len(found) < pixels * 32 // values:
            burst = int(rng.integers(1, ring + 1)) if not burst and rng.random() < 0.05 else max(0, burst - 1)
            finished = bool(burst) and memory.written < pixels and memory.written - memory.freed < ring
            if finished:
                sums.append(memory.write())
            ctx.set(unit.finished, finished)
            ready = rng.random() >= stall
            ctx.set(unit.o.ready, ready)
            if ready and ctx.get(unit.o.valid):
                found.append([ctx.get(unit.o.payload[i]) for i in range(values)])
            freed = ctx.get(unit.freed)
            memory.answer(ctx)
            await ctx.tick()
            if freed:
                memory.free()
            left = len(found) < 32 * memory.written // values
            faults.append(bool(ctx.get(unit.idle)) == left)

    simulate(unit, bench, deadline=20 * pixels * 32)
    assert found == unit.model(np.array(sums)).tolist()
    assert memory.freed == pixels
    assert not any(faults)


def test_bits_are_those_of_float32():
    values = np.array(CORNERS, np.float32)
    exact = [
        sum_value((int(e) + 126) << 26 | int(m * 2.0**24) % (1 << 26))
        for m, e in zip(*np.frexp(values), strict=True)
    ]
    assert np.array(exact, np.float32).tobytes() == values.tobytes()
