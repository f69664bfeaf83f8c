"""Tokens, the order of a unit's instructions, and their counters."""

import numpy as np

from gatecast.isa import UNITS, Instruction, encode, units
from gatecast.rtl.instructions import unit_beats
from gatecast.rtl.tokens import Tokens
from gatecast.rtl.unit_control import State, UnitControl

LOAD, WEIGHTS, MATRIX, VECTOR, STORE = range(5)


def test_counters_follow_signals_and_waits(simulate):
    rng, tokens, faults = np.random.default_rng(0), Tokens(), []
    counters = np.zeros((5, 5), int)  # from, to

    async def bench(ctx):
        for _ in range(400):
            wait, signal = rng.integers(0, 32, 5), rng.integers(0, 32, 5) & rng.integers(0, 32, 5)
            for unit in range(5):
                ctx.set(tokens.wait[unit], int(wait[unit]))
                ctx.set(tokens.signal[unit], int(signal[unit]))
            missing = [
                sum((wait[to] >> f & 1 and f != to and not counters[f, to]) << f for f in range(5))
                for to in range(5)
            ]
            granted = [not m for m in missing]
            take = [bool(g and rng.random() < 0.5) for g in granted]
            ctx.set(tokens.take, sum(t << unit for unit, t in enumerate(take)))
            got = [ctx.get(tokens.missing[unit]) for unit in range(5)]
            if got != missing or ctx.get(tokens.granted) != sum(g << u for u, g in enumerate(granted)):
                faults.append((wait, got, missing))
            if bool(ctx.get(tokens.empty)) != (not counters.any()):
                faults.append("empty")
            for a in range(5):
                for b in range(5):
                    if a != b:
                        counters[a, b] += (signal[a] >> b & 1) - (take[b] and wait[b] >> a & 1)
            await ctx.tick()

    simulate(tokens, bench)
    assert not faults


def beats(instruction, number, unit):
    """What `Fetch` hands to a unit: the words, the number in the place behind them, 16 bytes at once."""
    count = unit_beats(unit)
    code = encode(instruction)[: 16 * count - 4] + number.to_bytes(4, "little")
    return [int.from_bytes(code[16 * n : 16 * n + 16], "little") for n in range(count)]


def test_a_unit_waits_runs_and_signals_in_order(simulate):
    control, events = UnitControl("store", depth=4), []
    texts = [
        Instruction(
            "store", in_rows=1, in_columns=1, in_blocks=1, wait=("matrix",), signal=("load", "vector")
        ),
        Instruction("sync", unit="store", signal=("weights",)),
        Instruction("store", in_rows=1, in_columns=1, in_blocks=1, section=3),
    ]

    async def offer(ctx):
        for number, instruction in enumerate(texts):
            for beat in beats(instruction, 7 + number, "store"):
                ctx.set(control.i.payload, beat)
                ctx.set(control.i.valid, 1)
                await ctx.tick().until(control.i.ready)
                ctx.set(control.i.valid, 0)

    async def engine(ctx):
        """Take ten cycles for an instruction; grant tokens late."""
        ctx.set(control.done, 1)
        for cycle in range(80):
            ctx.set(control.granted, cycle > 12)
            if ctx.get(control.start):
                events.append(("start", ctx.get(control.number)))
                await ctx.tick()
                ctx.set(control.done, 0)
                await ctx.tick().repeat(9)
                ctx.set(control.done, 1)
            if ctx.get(control.retired):
                events.append(
                    ("retired", ctx.get(control.number), ctx.get(control.signal), ctx.get(control.cycles))
                )
            await ctx.tick()
        events.append((ctx.get(control.busy), ctx.get(control.waiting) > 10, ctx.get(control.idle)))
        events.append(State(ctx.get(control.state)))

    simulate(control, offer, engine)
    first = units("load", "vector")
    assert events == [
        ("start", 7),
        ("retired", 7, first, 9),
        ("retired", 8, units("weights"), 0),
        ("start", 9),
        ("retired", 9, 0, 9),
        (24, True, 1),
        State.IDLE,
    ]
    assert list(UNITS).index("store") == STORE
