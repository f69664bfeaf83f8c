"""Registers on a Wishbone bus."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .registers import REGISTERS


class RegisterBus(wiring.Component):
    """Wishbone classic, 32 bits, whole words; each access is acknowledged a cycle later.

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
        access = Signal()
        m.d.comb += access.eq(self.cyc & self.stb & ~self.ack)
        m.d.sync += self.ack.eq(access)
        for register in REGISTERS:
            if register.access == "W":
                m.d.sync += getattr(self, f"w_{register.name}").eq(0)
        with m.If(access), m.Switch(self.adr):
            for register in REGISTERS:
                with m.Case(register.word):
                    self._access(m, register)
            with m.Default():
                m.d.sync += self.dat_r.eq(0)
        return m

    def _access(self, m, register):
        if register.access == "R":
            m.d.sync += self.dat_r.eq(getattr(self, f"r_{register.name}"))
            return
        written = getattr(self, f"w_{register.name}")
        m.d.sync += self.dat_r.eq(written if register.access == "RW" else 0)
        with m.If(self.we):
            m.d.sync += written.eq(self.dat_w)
