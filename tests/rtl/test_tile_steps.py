"""Address generation of `convolve`: groups of pixels, and the steps of the lanes, one after another."""

import numpy as np
import pytest

from gatecast.isa import Instruction, View, encode
from gatecast.rtl.instructions import unit_words
from gatecast.rtl.lane import LaneDesign
from gatecast.rtl.matrix_vector import MatrixVector
from gatecast.rtl.pixel_groups import PixelGroups
from gatecast.rtl.tile_steps import TileSteps

BITS, PANELS, RING = 9, 24, 16
STALLS = pytest.mark.parametrize("stall", [0.0, 0.5], ids=["free-running", "back-pressure"])


def convolve(rng, **fixed):
    """A `convolve` whose window may lie outside its map in every direction."""
    size = {name: int(rng.integers(1, 4)) for name in ("kernel_rows", "kernel_columns", "in_blocks")}
    fields = {"in_rows": int(rng.integers(1, 6)), "in_columns": int(rng.integers(1, 6))} | size
    fields |= {name: int(rng.integers(1, 4)) for name in ("stride_y", "stride_x", "dilation_y", "dilation_x")}
    fields |= {"in_y": int(rng.integers(-4, 2)), "in_x": int(rng.integers(-4, 2))}
    fields |= {"out_rows": int(rng.integers(1, 4)), "out_columns": int(rng.integers(1, 4))}
    fields |= {"out_blocks": int(rng.integers(1, 4)), "group_blocks": int(rng.integers(0, 3))}
    view = View(int(rng.integers(1 << BITS)), "bfp8", int(rng.integers(40)), int(rng.integers(7)))
    fields |= {
        "weights": int(rng.integers(PANELS)),
        "partials": int(rng.integers(200)),
        "weight_format": "bfp8",
        **view.fields("in"),
    }
    return Instruction("convolve", **(fields | {"interleave": int(rng.integers(0, 9))} | fixed))


def code(instruction):
    return int.from_bytes(encode(instruction), "little") & (1 << 32 * unit_words("matrix")) - 1


async def start(ctx, unit, instruction):
    ctx.set(unit.instruction, code(instruction))
    ctx.set(unit.start, 1)
    await ctx.tick()
    ctx.set(unit.start, 0)


@STALLS
def test_groups_hold_the_places_of_their_pixels(simulate, stall):
    """They are found ahead, whenever the last one is taken."""
    rng, unit = np.random.default_rng(1), PixelGroups(8, BITS, 6)
    texts = [convolve(rng) for _ in range(8)] + [convolve(rng, interleave=1), convolve(rng, interleave=0)]

    async def bench(ctx):
        for instruction in texts:
            await start(ctx, unit, instruction)
            for places, ends in unit.model(instruction):
                while not ctx.get(unit.ready) or rng.random() < stall:
                    await ctx.tick()
                assert (ctx.get(unit.size), ctx.get(unit.ends)) == (len(places), ends)
                for slot, place in enumerate(places):
                    ctx.set(unit.slot, slot)
                    ctx.set(unit.other_slot, len(places) - 1 - slot)
                    for found, expected in ((unit.place, place), (unit.other_place, places[-1 - slot])):
                        assert {name: ctx.get(getattr(found, name)) for name in expected} == expected
                ctx.set(unit.taken, 1)
                await ctx.tick()
                ctx.set(unit.taken, 0)
            await ctx.tick().repeat(60)
            assert not ctx.get(unit.ready)  # there are no more
            assert ctx.get(unit.tap_row) == instruction.dilation_y * instruction.in_row % (1 << BITS)
            assert ctx.get(unit.tap_pixel) == instruction.dilation_x * instruction.in_pixel % (1 << BITS)

    simulate(unit, bench, deadline=50_000)


def steps_of(lanes, latency):
    """Steps for an array of which only the sizes count; Amaranth need not warn that it is not simulated."""
    array = MatrixVector(lanes, PANELS, RING, LaneDesign(latency, 8))
    array._MustUse__used = True
    return TileSteps(array, 8, BITS, 9, PANELS, RING)


class Bench:
    """Memory, accumulators and reader of sums around `TileSteps`, each with stalls of its own."""

    def __init__(self, unit, stall, rng):
        self.unit, self.stall, self.rng = unit, stall, rng
        self.steps, self.preset, self.stored, self.since = [], [], 0, 0

    async def tick(self, ctx):
        """One cycle: take a step, a read, a request to set a sum; free a pixel of the result memory."""
        unit, chance = self.unit, self.rng.random
        ctx.set(unit.read_ready, chance() >= self.stall)
        free = self.stored > 0 and chance() < 0.3
        ctx.set(unit.freed, free)
        ctx.set(unit.quiet, self.since > 5)
        ctx.set(unit.resume_ready, ctx.get(unit.resume_valid) and chance() >= self.stall)
        if ctx.get(unit.resume_ready):
            names = ("resume_pass", "resume_slot", "resume_vector")
            self.preset.append((len(self.steps), *(ctx.get(getattr(unit, name)) for name in names)))
        self.since = 0 if ctx.get(unit.step.valid) else self.since + 1
        if ctx.get(unit.step.valid):
            self._note(ctx, ctx.get(unit.read_address) if ctx.get(unit.read_valid) else None)
        self.stored -= free
        assert self.stored <= unit.ring, "sums are written where others stand"
        await ctx.tick()

    def _note(self, ctx, address):
        step = self.unit.step
        names = ("panel", "slot", "load", "first", "last", "result", "final", "zero")
        self.steps.append((address, {name: ctx.get(getattr(step, name)) for name in names}))
        self.stored += self.steps[-1][1]["last"] and self.steps[-1][1]["final"]


@STALLS
@pytest.mark.parametrize(("lanes", "latency"), [(8, 7), (16, 5), (32, 9)])
def test_each_step_meets_its_block_and_its_panel(simulate, lanes, latency, stall):
    rng, unit = np.random.default_rng(lanes), steps_of(lanes, latency)
    texts = [convolve(rng, resume=n % 3 == 2) for n in range(6)]
    bench = Bench(unit, stall, rng)

    async def run(ctx):
        before = 0
        for instruction in texts:
            bench.steps, bench.preset = [], []
            await start(ctx, unit, instruction)
            while not ctx.get(unit.done):
                await bench.tick(ctx)
            assert bench.steps == unit.model(instruction, before)
            assert bench.preset == presets(unit, instruction)
            before += sum(len(places) for places, _ in unit.groups.model(instruction))

    simulate(unit, run, deadline=100_000)


def presets(unit, instruction):
    """Steps before it, pass, slot and vector of each sum that is set."""
    found, before, count = [], 0, instruction.kernel_rows * instruction.kernel_columns * instruction.in_blocks
    for places, _ in unit.groups.model(instruction) if instruction.resume else ():
        for part in range(unit.array.passes):
            found += [(before, part, slot, place["partial"]) for slot, place in enumerate(places)]
            before += count * len(places)
    return found


def test_a_sum_comes_back_to_its_slot_no_sooner_than_the_adder_allows(simulate):
    rng, unit, last, gaps = np.random.default_rng(3), steps_of(8, 7), {}, []

    async def run(ctx):
        ctx.set(unit.read_ready, 1)
        for pixels in (1, 3, 8):
            await start(ctx, unit, convolve(rng, interleave=pixels, out_rows=2, out_columns=4))
            for cycle in range(100_000):
                if ctx.get(unit.done):
                    break
                valid = ctx.get(unit.step.valid)
                ctx.set(unit.freed, valid and ctx.get(unit.step.last) and ctx.get(unit.step.final))
                if valid:
                    slot = ctx.get(unit.step.slot)
                    gaps.append(cycle - last.get(slot, -100))
                    last[slot] = cycle
                await ctx.tick()
            last.clear()

    simulate(unit, run, deadline=100_000)
    assert min(gaps) == 7
