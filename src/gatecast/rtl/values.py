"""Float32 operations on blocks of 32 values: the epilogue of a convolution, pools and maps.

A block goes through *passes*: each takes its rows one after another through one operation. See
docs/spec/numerics.md §3 for their order.
"""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..numerics import BLOCK_SIZE, clip, relu
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
    """What becomes of the result of a pass."""

    NOTHING = 0
    RELU = 1
    CLIP = 2
    CLIP_UNIT = 3


_ONE = 0x3F800000


def less(m: Module, a, b):
    """Whether float a < float b, for numbers that are not NaN; -0.0 counts as less than +0.0.

    No sign of a zero is ever seen: what is written is +0.0.
    """
    keys = (Cat(x[:31] ^ x[31].replicate(31), x[31]).as_signed() for x in (a, b))
    a, b = (named(m, key, "key") for key in keys)
    return named(m, a < b, "less")


class Lane32(wiring.Component):
    """One value a cycle through one operation.

    Members
    -------
    operation, after, x, y : In
        Operands are IEEE bits.
    low, high : In(32)
        Limits of `After.CLIP`; steady.
    o : Out(32)
        IEEE bits, `latency` cycles later.
    """

    latency = FloatAdder.latency + 3

    def __init__(self):
        super().__init__(
            {
                "operation": In(Operation),
                "after": In(After),
                "x": In(32),
                "y": In(32),
                "low": In(32),
                "high": In(32),
                "o": Out(32),
            }
        )

    def model(self, operation: Operation, after: After, x, y, limits=(0.0, 0.0)):
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
        match after:
            case After.RELU:
                return relu(found)
            case After.CLIP:
                return clip(found, *limits)
            case After.CLIP_UNIT:
                return clip(found, 0.0, 1.0)
        return found

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        m.submodules.adder, m.submodules.multiplier = adder, multiplier = FloatAdder(), FloatMultiplier()
        x, y = (delayed(m, v, 1, reset_less=True) for v in (self.x, self.y))
        operation = delayed(m, self.operation, 1, reset_less=True)
        subtract = operation == Operation.SUBTRACT
        m.d.comb += [
            adder.a.eq(x),
            adder.b.eq(Cat(y[:31], y[31] ^ subtract)),
            multiplier.a.eq(x),
            multiplier.b.eq(y),
        ]
        second = named(m, less(m, x, y), "x_less")
        first = (
            (operation == Operation.FIRST)
            | ((operation == Operation.MAXIMUM) & ~second)
            | ((operation == Operation.MINIMUM) & second)
        )
        chosen = delayed(m, Mux(first, x, y), adder.latency, reset_less=True)
        product = delayed(m, multiplier.o, adder.latency - multiplier.latency, reset_less=True)
        late = delayed(m, operation, adder.latency, reset_less=True)
        sums = (late == Operation.ADD) | (late == Operation.SUBTRACT)
        found = Mux(sums, adder.o, Mux(late == Operation.MULTIPLY, product, chosen))
        after = delayed(m, self.after, adder.latency + 1, reset_less=True)
        m.d.comb += self.o.eq(delayed(m, self._after(m, found, after), 1, reset_less=True))
        return m

    def _after(self, m, found, after):
        unit = after == After.CLIP_UNIT
        low, high = Mux(unit, 0, self.low), Mux(unit, _ONE, self.high)
        found, low, high, after = registered(m, True, found, low, high, after)
        clipped = Mux(less(m, found, low), low, Mux(less(m, high, found), high, found))
        positive = Mux(found[31], 0, found)
        return Array([found, positive, clipped, clipped])[after]


class Plan(data.StructLayout):
    """Passes of an instruction, steady while it runs.

    `gather`: operation of the passes that take operands beyond the first; `add_first`, the sums of the lanes
    are x of the first pass (with `bias`: plus an operand); `scale`: times an operand, plus an operand;
    `residual`: plus an operand; `times`: times `low`; `plus`: plus `high`, then clip to 0..1; `again`: times
    what `times` took, or with `larger` the larger of both; `after`: what the last pass ends with.
    """

    def __init__(self):
        super().__init__(
            {
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
    sums : bool
        Whether x of the first pass comes from the lanes (`sums`), or the first operand is the value itself.

    Members
    -------
    plan : In(Plan)
    operands : In(stream)
        Rows of `Operands`, in the order of the passes.
    sums : In(stream)
        Rows of sums, if `sums`.
    free : In(1)
        The writer can take a block.
    taken : Out(1)
        A block for the writer begins.
    o_valid, o_values : Out
        A row of results; the rows of a block come in order.
    active : Out(1)
        A block is at work, up to its last row's start.
    """

    def __init__(self, values: int, sums: bool):
        self.values, self.has_sums = values, sums
        self.rows = BLOCK_SIZE // values
        rows = data.ArrayLayout(32, values)
        members = {
            "plan": In(Plan()),
            "operands": In(stream.Signature(data.StructLayout({"values": rows, "tag": 2}))),
            "free": In(1),
            "taken": Out(1),
            "o_valid": Out(1),
            "o_values": Out(rows),
            "active": Out(1),
        }
        if sums:
            members["sums"] = In(stream.Signature(rows))
        super().__init__(members)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        plan, tag = Signal(Plan()), self.operands.payload.tag
        m.d.sync += plan.eq(self.plan)  # long before the first operand
        now, row, cooling = Signal(Pass), Signal(range(self.rows)), Signal(range(16))
        gather = named(m, now == Pass.GATHER, "gather")
        passes = self._passes(m, plan, now)
        gathered = Const(1, 1) if self.has_sums else tag[LAST_TAG]
        final = named(m, ~passes.more & (~gather | gathered), "final")

        ready = ~passes.operand | self.operands.valid
        if self.has_sums:
            ready = ready & (~gather | self.sums.valid)
        first_row = named(m, row == 0, "first_row")
        go = named(m, ready & (cooling == 0) & (self.free | ~final | ~first_row), "go")
        m.d.comb += [
            self.operands.ready.eq(go & passes.operand),
            self.taken.eq(go & final & first_row),
            self.active.eq(~gather | ~first_row | go),
        ]
        if self.has_sums:
            m.d.comb += self.sums.ready.eq(go & gather)
        with m.If(cooling != 0):
            m.d.sync += cooling.eq(cooling - 1)
        with m.If(go):
            m.d.sync += row.eq(row + 1)
            with m.If(row == self.rows - 1):
                m.d.sync += [row.eq(0), cooling.eq(max(0, Lane32.latency + 1 - self.rows))]
                with m.If(~gather | gathered):
                    m.d.sync += now.eq(passes.following)
                    m.d.sync += [passes.more.eq(passes.more_then), passes.operand.eq(passes.operand_then)]
        self._arithmetic(m, plan, now, row, go, final)
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

        with_operand = Array([plan.bias if self.has_sums else Const(1, 1), *Const(0b0111, 6)])
        more = (Signal(name=name) for name in ("more_passes", "more_then"))
        first = not self.has_sums  # before the first plan, a block without sums waits for an operand
        operand = (Signal(name=name, init=first) for name in ("operand", "operand_then"))
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

    def _arithmetic(self, m, plan, now, row, go, final):
        operand = self.operands.payload
        width = 32 * self.values
        m.submodules.block = block = memory.Memory(shape=width, depth=self.rows, init=[])
        m.submodules.kept = kept = memory.Memory(shape=width, depth=self.rows, init=[])  # what `times` took
        read, write = block.read_port(domain="comb"), block.write_port()
        read_kept, write_kept = kept.read_port(domain="comb"), kept.write_port()
        gather = now == Pass.GATHER
        gathers = (
            Mux(plan.bias, Operation.ADD, Operation.FIRST)
            if self.has_sums
            else Mux(operand.tag[FIRST_TAG], Operation.SECOND, plan.gather)
        )
        add, multiply = Operation.ADD, Operation.MULTIPLY
        again = Mux(plan.larger, Operation.MAXIMUM, multiply)
        operation = Array([gathers, multiply, add, add, multiply, add, again])[now.as_value()]
        after = Mux(now == Pass.PLUS, After.CLIP_UNIT, Mux(final, plan.after, After.NOTHING))
        y = [operand.values.as_value()] * 4 + [
            plan.low.replicate(self.values),
            plan.high.replicate(self.values),
            read_kept.data,
        ]
        y = named(m, Array(y)[now.as_value()], "y")
        x = named(m, Mux(gather, self.sums.payload, read.data) if self.has_sums else read.data, "x")
        at_end = delayed(m, Cat(go, final, row), Lane32.latency)
        m.d.comb += [
            read.addr.eq(row),
            read_kept.addr.eq(row),
            write_kept.addr.eq(row),
            write_kept.data.eq(x),
            write_kept.en.eq(go & (now == Pass.TIMES)),
            write.addr.eq(at_end[2:]),
            write.data.eq(self.o_values),
            write.en.eq(at_end[0] & ~at_end[1]),
            self.o_valid.eq(at_end[0] & at_end[1]),
        ]
        for i in range(self.values):
            m.submodules[f"lane{i}"] = lane = Lane32()
            m.d.comb += [
                lane.operation.eq(operation),
                lane.after.eq(after),
                lane.x.eq(x[32 * i : 32 * i + 32]),
                lane.y.eq(y[32 * i : 32 * i + 32]),
                lane.low.eq(plan.low),
                lane.high.eq(plan.high),
                self.o_values[i].eq(lane.o),
            ]
