"""Address generation: nested counters against plain sums."""

import numpy as np
import pytest

from gatecast.rtl.walker import Products, Track, Walker


def track(rng, width):
    return Track(*(int(rng.integers(0, 1 << width)) for _ in range(3)))


@pytest.mark.parametrize("pause", [0.0, 0.4], ids=["each-cycle", "with-pauses"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 4), (4, 5)])
def test_each_position_is_a_sum_of_strides(simulate, shape, pause):
    rng, (rows, columns) = np.random.default_rng(sum(shape)), shape
    unit = Walker({"a": 7, "byte": 32})
    tracks = {name: track(rng, width) for name, width in unit.tracks.items()}
    found, ends = [], []

    async def bench(ctx):
        ctx.set(unit.rows, rows)
        ctx.set(unit.columns, columns)
        for name, t in tracks.items():
            for part in ("start", "row", "pixel"):
                ctx.set(getattr(unit, f"{name}_{part}"), getattr(t, part))
        for _ in range(2):  # a restart begins anew
            ctx.set(unit.restart, 1)
            await ctx.tick()
            ctx.set(unit.restart, 0)
            for _ in range(rows * columns):
                while rng.random() < pause:
                    await ctx.tick()
                found.append({name: ctx.get(getattr(unit, name)) for name in tracks})
                ends.append((ctx.get(unit.last_column), ctx.get(unit.last_row), ctx.get(unit.last)))
                ctx.set(unit.advance, 1)
                await ctx.tick()
                ctx.set(unit.advance, 0)

    simulate(unit, bench)
    assert found == 2 * unit.model(tracks, rows, columns)
    places = [(x == columns - 1, y == rows - 1) for y in range(rows) for x in range(columns)]
    assert ends == 2 * [(int(a), int(b), int(a and b)) for a, b in places]


def test_negative_starts_count_modulo_the_width(simulate):
    """`in_y` = -1 is the row before the first, as an address and as a coordinate of 17 bits."""
    unit, found = Walker({"y": 17}), []

    async def bench(ctx):
        ctx.set(unit.rows, 2)
        ctx.set(unit.columns, 1)
        ctx.set(unit.y_start, -1)
        ctx.set(unit.y_row, 2)
        ctx.set(unit.restart, 1)
        await ctx.tick()
        ctx.set(unit.restart, 0)
        for _ in range(2):
            found.append({"y": ctx.get(unit.y)})
            ctx.set(unit.advance, 1)
            await ctx.tick()

    simulate(unit, bench)
    assert found == unit.model({"y": Track(-1, 2, 0)}, 2, 1) == [{"y": (1 << 17) - 1}, {"y": 1}]


@pytest.mark.parametrize("width", [7, 13])
def test_products_modulo_the_width(simulate, width):
    rng, unit = np.random.default_rng(width), Products(("first", "second"), width)
    pairs = [[int(v) for v in rng.integers(-(1 << width - 1), 1 << width - 1, 4)] for _ in range(20)]
    found, waited = [], []

    async def bench(ctx):
        for a, b, c, d in pairs:
            for name, value in (("first_a", a), ("first_b", b), ("second_a", c), ("second_b", d)):
                ctx.set(getattr(unit, name), value % (1 << width))
            ctx.set(unit.start, 1)
            await ctx.tick()
            ctx.set(unit.start, 0)
            cycles = 1
            while not ctx.get(unit.done):
                await ctx.tick()
                cycles += 1
            waited.append(cycles)
            found.append((ctx.get(unit.first), ctx.get(unit.second)))

    simulate(unit, bench)
    assert found == [(unit.model(a, b), unit.model(c, d)) for a, b, c, d in pairs]
    assert set(waited) == {unit.latency}
