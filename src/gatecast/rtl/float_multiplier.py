"""float32 multiplication, rounded to nearest, ties to even."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .pipeline import delayed, named, registered


class FloatMultiplier(wiring.Component):
    """``fl32(a * b)`` for normal numbers and zeros; a pair each cycle.

    Made of four 12 x 12 products, which fit any FPGA's multipliers. Neither operands nor results may be
    subnormal, infinite or NaN: the limits of docs/spec/numerics.md §3 exclude them.

    Members
    -------
    a, b : In(32)
        IEEE bits.
    o : Out(32)
        IEEE bits of the product, `latency` cycles later.
    """

    latency = 4

    def __init__(self):
        super().__init__({"a": In(32), "b": In(32), "o": Out(32)})

    def model(self, a: np.float32, b: np.float32) -> np.float32:
        """What `o` carries."""
        return np.float32(a) * np.float32(b)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        a, b = (Cat(x[:23], 1) for x in (self.a, self.b))
        nonzero = self.a[23:31].any() & self.b[23:31].any()
        exponent = (self.a[23:31] + self.b[23:31] - 127)[:8]
        sign = self.a[31] ^ self.b[31]

        low, cross, other, high, *head = registered(
            m,
            True,
            a[:12] * b[:12],
            a[:12] * b[12:],
            a[12:] * b[:12],
            a[12:] * b[12:],
            exponent,
            nonzero,
            sign,
        )
        outer, inner, *head = registered(m, True, Cat(low, high), cross + other, *head)
        product, exponent, nonzero, sign = registered(
            m, True, Cat(outer[:12], (outer[12:] + inner)[:36]), *head
        )

        top = product[47]
        kept = named(m, Mux(top, product[24:47], product[23:46]), "kept")
        half = Mux(top, product[23], product[22])
        sticky = product[:22].any() | (top & product[22])
        rounded = (Cat(kept, (exponent + top)[:8]) + (half & (sticky | kept[0])))[:31]
        m.d.comb += self.o.eq(delayed(m, Cat(Mux(nonzero, rounded, 0)[:31], sign), 1, reset_less=True))
        return m
