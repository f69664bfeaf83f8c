"""Registers on a Wishbone bus."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .pipeline import delayed
from .registers import REGISTERS

LATENCY = 3
"""Cycles from a request to its acknowledgement."""

SOME = 4
"""Registers that come together in the first stage."""


class RegisterBus(wiring.Component):
    """Wishbone classic, 32 bits, whole words; each access is acknowledged `LATENCY` cycles later.

    What is read comes together in two stages, since registers stand all over the chip.

    Members
    -------
    cyc, stb, we, adr, dat_w, dat_r, ack
        The bus; `adr` counts words.
    r_<register> : In(32)
        What a register of access R reads as.
    w_<register> : Out(32)
        What was last written to one of access RW; to one of access W, for one cycle only.
    """

    def __init__(self):
        members = {
            "cyc": In(1),
            "stb": In(1),
            "we": In(1),
            "adr": In(8),
            "dat_w": In(32),
            "dat_r": Out(32),
            "ack": Out(1),
        }
        for register in REGISTERS:
            if register.access == "R":
                members[f"r_{register.name}"] = In(32)
            else:
                members[f"w_{register.name}"] = Out(32)
        super().__init__(members)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        access = self.cyc & self.stb
        age = Signal(LATENCY)  # of the access that is under way
        m.d.sync += age.eq(Cat(access & ~age.any() & ~self.ack, age)[:LATENCY])
        chosen = Signal(len(REGISTERS))
        m.d.sync += chosen.eq(Cat(self.adr == register.word for register in REGISTERS))
        shown = []
        for number, register in enumerate(REGISTERS):
            if register.access == "R":
                value = getattr(self, f"r_{register.name}")
            else:
                value = self._written(m, register, chosen[number] & age[0] & self.we)
            if register.access != "W":
                shown.append(value & chosen[number].replicate(32))
        shown.reverse()  # so that the four of a unit stand together
        some = [delayed(m, reduce(or_, shown[i : i + SOME]), 1) for i in range(0, len(shown), SOME)]
        m.d.sync += self.dat_r.eq(reduce(or_, some))
        m.d.comb += self.ack.eq(age[-1])
        return m

    def _written(self, m, register, now):
        """What was last written; to a register of access W, for a cycle only."""
        written = getattr(self, f"w_{register.name}")
        with m.If(now):
            m.d.sync += written.eq(self.dat_w)
        if register.access == "W":
            with m.Else():
                m.d.sync += written.eq(0)
        return written
