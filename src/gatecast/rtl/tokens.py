"""Token counters: how units wait for each other. See docs/spec/isa.md §5."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..isa import UNITS

COUNT = len(UNITS)
COUNTER_BITS = 8


class Tokens(wiring.Component):
    """A counter from each unit to each other one.

    Members
    -------
    signal : In
        For each unit, the units that it tells now.
    wait : In
        For each unit, the units of which it wants a token each; its own bit counts for nothing.
    granted : Out
        For each unit, whether all of them are there.
    take : In
        For each unit: take them, in this cycle.
    missing : Out
        For each unit, the units of which a token is missing.
    empty : Out(1)
        All counters are 0.
    """

    def __init__(self):
        masks = data.ArrayLayout(COUNT, COUNT)
        super().__init__(
            {
                "signal": In(masks),
                "wait": In(masks),
                "granted": Out(COUNT),
                "take": In(COUNT),
                "missing": Out(masks),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        counters = []
        for to in range(COUNT):
            missing = []
            for from_ in range(COUNT):
                if from_ == to:
                    missing.append(0)
                    continue
                counter = Signal(COUNTER_BITS, name=f"{UNITS[from_]}_to_{UNITS[to]}")
                gives = self.signal[from_][to]
                takes = self.take[to] & self.wait[to][from_]
                m.d.sync += counter.eq(counter + gives - takes)
                missing.append(self.wait[to][from_] & (counter == 0))
                counters.append(counter)
            m.d.comb += [
                self.missing[to].eq(Cat(missing)),
                self.granted[to].eq(~self.missing[to].any()),
            ]
        m.d.comb += self.empty.eq(~Cat(counters).any())
        return m
