"""One lane: a dot product each cycle, added to one of its sums."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from .block_dot import BlockDot
from .float_accumulator import FloatAccumulator

OPERANDS = ("a", "w", "a_exponent", "w_exponent")


class Lane(wiring.Component):
    """`BlockDot` into `FloatAccumulator`; slots and control come from outside, the same for all lanes.

    Members
    -------
    a, w, a_exponent, w_exponent
        Those of `BlockDot`.
    the rest
        Those of `FloatAccumulator`: `read_slot` comes `read_latency` cycles after the operands.
    """

    def __init__(self, dot: BlockDot, accumulator: FloatAccumulator):
        self.dot, self.accumulator = dot, accumulator
        self.read_latency = dot.latency + accumulator.read_latency
        self.write_latency = self.read_latency + accumulator.latency - 1
        self.passed = [n for n in accumulator.signature.members if n not in ("dot", "exponent")]
        super().__init__(
            {name: dot.signature.members[name] for name in OPERANDS}
            | {name: accumulator.signature.members[name] for name in self.passed}
        )

    def model(self, total, a, w, exponent):
        """The sum after a step with int8 mantissas and the sum of both exponent bytes."""
        return self.accumulator.model(total, self.dot.model(a, w), exponent)

    def elaborate(self, platform):
        m = Module()
        m.submodules.dot = dot = self.dot
        m.submodules.accumulator = accumulator = self.accumulator
        m.d.comb += [getattr(dot, name).eq(getattr(self, name)) for name in OPERANDS]
        m.d.comb += [accumulator.dot.eq(dot.dot), accumulator.exponent.eq(dot.exponent)]
        for name in self.passed:
            inner, outer = getattr(accumulator, name), getattr(self, name)
            inward = accumulator.signature.members[name].flow == In
            m.d.comb += inner.eq(outer) if inward else outer.eq(inner)
        return m
