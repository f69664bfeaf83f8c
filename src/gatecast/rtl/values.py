"""Float32 operations on blocks of 32 values: the epilogue of a convolution, pools and maps.

A block goes through *passes*: each takes its rows one after another through one operation. See
docs/spec/numerics.md §3 for their order.
"""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..numerics import BLOCK_SIZE, clip
from .float_adder import FloatAdder
from .float_multiplier import FloatMultiplier
from .pipeline import delayed, named, registered


class Operation(enum.Enum, shape=3):
    """What a pass computes of its operands x and y; the numbers of the first six are those of `map`."""

    SECOND = 0
    ADD = 1
    SUBTRACT = 2
    MULTIPLY = 3
    MAXIMUM = 4
    MINIMUM = 5
    FIRST = 6


class After(enum.Enum, shape=2):
    """What becomes of the result of the last pass."""

    NOTHING = 0
    RELU = 1
    CLIP = 2


_ONE, _NONE_LARGER = 0x3F800000, 0x7FFFFFFF


def less(m: Module, a, b, smaller):
    """Whether float a < float b, for numbers that are not NaN; `smaller` says whether |a| < |b|.

    Equal numbers may count as less, and so may -0.0 than +0.0: what is chosen between them is the same, since
    what is written is +0.0.
    """
    return named(m, Mux(a[31] ^ b[31], a[31], smaller ^ a[31]), "less")


class Lane32(wiring.Component):
    """One value a cycle through one operation.

    Operations that choose go through the multiplier: what they choose, times 1.

    Members
    -------
    operation, x, y : In
        Operands are IEEE bits.
    clip : In(1)
        The result is clipped to `low` and `high`.
    low, high : In(32)
        Steady.
    o : Out(32)
        IEEE bits, `latency` cycles later.
    """

    latency = FloatAdder.latency + 3

    def __init__(self):
        super().__init__(
            {
                "operation": In(Operation),
                "clip": In(1),
                "x": In(32),
                "y": In(32),
                "low": In(32),
                "high": In(32),
                "o": Out(32),
            }
        )

    def model(self, operation: Operation, x, y, limits=None):
        """What `o` carries, for arrays of float32."""
        found = {
            Operation.SECOND: lambda: y,
            Operation.ADD: lambda: x + y,
            Operation.SUBTRACT: lambda: x - y,
            Operation.MULTIPLY: lambda: x * y,
            Operation.MAXIMUM: lambda: np.maximum(x, y),
            Operation.MINIMUM: lambda: np.minimum(x, y),
            Operation.FIRST: lambda: x,
        }[operation]()
        return found if limits is None else clip(found, *limits)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        m.submodules.adder, m.submodules.multiplier = adder, multiplier = FloatAdder(), FloatMultiplier()
        x, y = (delayed(m, v, 1, reset_less=True) for v in (self.x, self.y))
        operation = delayed(m, self.operation, 1, reset_less=True)
        subtract = operation == Operation.SUBTRACT
        m.d.comb += [adder.a.eq(x), adder.b.eq(Cat(y[:31], y[31] ^ subtract))]
        self._factors(m, adder, multiplier, x, y, operation)
        product = delayed(m, multiplier.o, adder.latency - multiplier.latency - 2, reset_less=True)
        late = delayed(m, operation, adder.latency, reset_less=True)
        sums = (late == Operation.ADD) | (late == Operation.SUBTRACT)
        (found,) = registered(m, True, Mux(sums, adder.o, product))
        clips = delayed(m, self.clip, adder.latency + 2, reset_less=True)
        below = clips & less(m, found, self.low, found[:31] < self.low[:31])
        above = clips & less(m, self.high, found, self.high[:31] < found[:31])
        clipped = Mux(below, self.low, Mux(above, self.high, found))
        m.d.comb += self.o.eq(delayed(m, clipped, 1, reset_less=True))
        return m

    def _factors(self, m, adder, multiplier, x, y, operation):
        """What is multiplied: x and y, or one of them and 1."""
        x, y, operation = registered(m, True, x, y, operation)
        second = less(m, x, y, adder.smaller)
        first = (
            (operation == Operation.FIRST)
            | (operation == Operation.MULTIPLY)
            | ((operation == Operation.MAXIMUM) & ~second)
            | ((operation == Operation.MINIMUM) & second)
        )
        factor = Mux(operation == Operation.MULTIPLY, y, Const(_ONE, 32))
        a, b = registered(m, True, Mux(first, x, y), factor)
        m.d.comb += [multiplier.a.eq(a), multiplier.b.eq(b)]


class Plan(data.StructLayout):
    """Passes of an instruction, steady while it runs.

    `sums`: the sums of the lanes are x of the first pass (with `bias`: plus an operand), else the first
    operand is the value itself; `gather`: operation of the passes that take operands beyond the first;
    `scale`: times an operand, plus an operand; `residual`: plus an operand; `times`: times `low`; `plus`:
    plus `high`, then clip to 0..1; `again`: times what `times` took, or with `larger` the larger of both;
    `after`: what the last pass ends with, nothing where there is `plus`.
    """

    def __init__(self):
        super().__init__(
            {
                "sums": 1,
                "gather": Operation,
                "bias": 1,
                "scale": 1,
                "residual": 1,
                "times": 1,
                "plus": 1,
                "again": 1,
                "larger": 1,
                "after": After,
                "low": 32,
                "high": 32,
            }
        )


class Pass(enum.Enum, shape=3):
    """Passes in their order."""

    GATHER = 0
    SCALE = 1
    SHIFT = 2
    RESIDUAL = 3
    TIMES = 4
    PLUS = 5
    AGAIN = 6


FIRST_TAG, LAST_TAG = 0, 1
"""Bits of an operand's tag: it is the first, the last one that `Pass.GATHER` takes."""


@dataclass(frozen=True)
class _Passes:
    following: Signal
    more: Signal
    more_then: Signal
    operand: Signal
    operand_then: Signal


class Values(wiring.Component):
    """Take operands, run the passes of a `Plan` on block after block, hand the results to a `BlockWriter`.

    Parameters
    ----------
    values : int
        Values a cycle.

    Members
    -------
    plan : In(Plan)
        Known a few cycles before the first operand and the first sum are there.
    operands : In(stream)
        Rows of `Operands`, in the order of the passes.
    sums : In(stream)
        Rows of sums.
    free : In(1)
        The writer can take a block.
    taken : Out(1)
        A block for the writer begins.
    o_valid, o_values : Out
        A row of results; the rows of a block come in order.
    """

    def __init__(self, values: int):
        self.values = values
        self.rows = BLOCK_SIZE // values
        rows = data.ArrayLayout(32, values)
        super().__init__(
            {
                "plan": In(Plan()),
                "operands": In(stream.Signature(data.StructLayout({"values": rows, "tag": 2}))),
                "sums": In(stream.Signature(rows)),
                "free": In(1),
                "taken": Out(1),
                "o_valid": Out(1),
                "o_values": Out(rows),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        plan, tag = Signal(Plan()), self.operands.payload.tag
        m.d.sync += plan.eq(self.plan)  # long before the first operand
        now, row, cooling = Signal(Pass), Signal(range(self.rows)), Signal(range(16))
        gather = named(m, now == Pass.GATHER, "gather")
        passes = self._passes(m, plan, now)
        ends = named(m, ~gather | plan.sums | tag[LAST_TAG], "pass_ends")
        final = named(m, ~passes.more & ends, "final")

        sums = named(m, gather & plan.sums, "takes_sums")
        # a block begins with something, also while another plan settles
        begins = Mux(plan.sums, self.sums.valid, self.operands.valid)
        ready = (~passes.operand | self.operands.valid) & (~gather | begins)
        first_row = named(m, row == 0, "first_row")
        go = named(m, ready & (cooling == 0) & (self.free | ~final | ~first_row), "go")
        m.d.comb += [
            self.operands.ready.eq(go & passes.operand),
            self.sums.ready.eq(go & sums),
            self.taken.eq(go & final & first_row),
        ]
        with m.If(cooling != 0):
            m.d.sync += cooling.eq(cooling - 1)
        with m.If(go):
            m.d.sync += row.eq(row + 1)
            with m.If(row == self.rows - 1):
                m.d.sync += [row.eq(0), cooling.eq(max(0, Lane32.latency + 1 - self.rows))]
                with m.If(ends):
                    m.d.sync += now.eq(passes.following)
                    m.d.sync += [passes.more.eq(passes.more_then), passes.operand.eq(passes.operand_then)]
        x, y = self._operands(m, plan, now, row, sums, go)
        operation = self._operation(m, plan, now)
        clips = (now == Pass.PLUS) | (final & (plan.after != After.NOTHING))
        self._arithmetic(m, operation, clips, x, y)
        self._results(m, row, go, final)
        return m

    def _passes(self, m, plan, now):
        """The pass after this one; whether there is one for this block; whether this one takes an operand.

        The same of the pass after this one. All in registers: known some rows before a pass ends.
        """
        enabled = [plan.scale, plan.scale, plan.residual, plan.times, plan.plus, plan.again]

        def after(now):
            following, more = Signal(Pass, name="after"), Signal(name="more")
            for number in reversed(range(1, 7)):  # the lowest that is enabled stands last, and wins
                with m.If((now.as_value() < number) & enabled[number - 1]):
                    m.d.comb += [following.as_value().eq(number), more.eq(1)]
            return following, more

        with_operand = Array([plan.bias | ~plan.sums, *Const(0b0111, 6)])
        more = (Signal(name=name) for name in ("more_passes", "more_then"))
        # before the first plan, a block without sums waits for an operand
        operand = (Signal(name=name, init=1) for name in ("operand", "operand_then"))
        passes = _Passes(Signal(Pass, name="following"), *more, *operand)
        following, more = after(now)
        m.d.sync += [
            passes.following.eq(following),
            passes.more.eq(more),
            passes.more_then.eq(after(passes.following)[1]),
            passes.operand.eq(with_operand[now.as_value()]),
            passes.operand_then.eq(with_operand[passes.following.as_value()]),
        ]
        return passes

    def _operation(self, m, plan, now):
        first = self.operands.payload.tag[FIRST_TAG]
        of_sums = Mux(plan.bias, Operation.ADD, Operation.FIRST)
        gathers = Mux(plan.sums, of_sums, Mux(first, Operation.SECOND, plan.gather))
        add, multiply = Operation.ADD, Operation.MULTIPLY
        again = Mux(plan.larger, Operation.MAXIMUM, multiply)
        return Array([gathers, multiply, add, add, multiply, add, again])[now.as_value()]

    def _operands(self, m, plan, now, row, sums, go):
        """Operands x and y of each value."""
        self._block, kept = (
            memory.Memory(shape=32 * self.values, depth=self.rows, init=[]) for _ in range(2)
        )
        m.submodules.block, m.submodules.kept = self._block, kept  # kept: what `times` took
        read, read_kept, write_kept = (
            self._block.read_port(domain="comb"),
            kept.read_port(domain="comb"),
            kept.write_port(),
        )
        constant = named(m, Mux(now == Pass.PLUS, plan.high, plan.low), "constant")
        own = Mux(now == Pass.AGAIN, read_kept.data, constant.replicate(self.values))
        takes = named(m, now.as_value() < Pass.TIMES.value, "takes_operand")
        y = named(m, Mux(takes, self.operands.payload.values, own), "y")
        x = named(m, Mux(sums, self.sums.payload, read.data), "x")
        m.d.comb += [
            read.addr.eq(row),
            read_kept.addr.eq(row),
            write_kept.addr.eq(row),
            write_kept.data.eq(x),
            write_kept.en.eq(go & (now == Pass.TIMES)),
        ]
        return x, y

    def _arithmetic(self, m, operation, clips, x, y):
        clip, low, high = self.plan.after == After.CLIP, Signal(32), Signal(32)
        relu = self.plan.after == After.RELU
        m.d.sync += [
            low.eq(Mux(clip, self.plan.low, 0)),
            high.eq(Mux(clip, self.plan.high, Mux(relu, Const(_NONE_LARGER, 32), Const(_ONE, 32)))),
        ]
        for i in range(self.values):
            m.submodules[f"lane{i}"] = lane = Lane32()
            m.d.comb += [
                lane.operation.eq(operation),
                lane.clip.eq(clips),
                lane.x.eq(x[32 * i : 32 * i + 32]),
                lane.y.eq(y[32 * i : 32 * i + 32]),
                lane.low.eq(low),
                lane.high.eq(high),
                self.o_values[i].eq(lane.o),
            ]

    def _results(self, m, row, go, final):
        """Rows of the last pass go to the writer, others back; each pass has all rows, one after another."""
        write, at = self._block.write_port(), Signal(range(self.rows))
        ends, again = delayed(m, Cat(go & final, go & ~final), Lane32.latency)
        with m.If(ends | again):
            m.d.sync += at.eq(at + 1)
        m.d.comb += [
            write.addr.eq(at),
            write.data.eq(self.o_values),
            write.en.eq(again),
            self.o_valid.eq(ends),
        ]
