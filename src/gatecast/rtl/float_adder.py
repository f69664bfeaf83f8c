"""float32 addition, rounded to nearest, ties to even."""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .pipeline import delayed, named, registered, shift_out, shift_right_sticky


class FloatAdder(wiring.Component):
    """``fl32(a + b)`` for normal numbers and zeros; a pair each cycle.

    Neither operands nor results may be subnormal, infinite or NaN: the limits of docs/spec/numerics.md §3
    exclude them.

    Members
    -------
    a, b : In(32)
        IEEE bits.
    o : Out(32)
        IEEE bits of the sum, `latency` cycles later.
    smaller : Out(1)
        |a| < |b|, a cycle later.
    """

    latency = 7

    def __init__(self):
        super().__init__({"a": In(32), "b": In(32), "o": Out(32), "smaller": Out(1)})

    def model(self, a: np.float32, b: np.float32) -> np.float32:
        """What `o` carries."""
        return np.float32(a) + np.float32(b)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()

        # compare
        a_small = self.a[:31] < self.b[:31]
        differences = [(x[23:31] - y[23:31])[:8] for x, y in ((self.a, self.b), (self.b, self.a))]
        a, b, a_small, down, up = registered(m, True, self.a, self.b, a_small, *differences)
        m.d.comb += self.smaller.eq(a_small)

        # swap, align coarsely; 27 places are as good as more
        big, small = named(m, Mux(a_small, b, a), "big"), named(m, Mux(a_small, a, b), "small")
        distance = named(m, Mux(a_small, up, down), "distance")
        amount = named(m, distance[:5] | distance[5:].any().replicate(5), "amount")
        x = named(m, Cat(Const(0, 3), _significand(small)), "x")
        x, sticky = shift_right_sticky(m, x, amount, Const(0, 1), (16, 8))
        x, sticky, amount, big, opposite = registered(
            m, True, x, sticky, amount[:3], big, big[31] ^ small[31]
        )

        # align finely
        x, sticky = shift_right_sticky(m, x, amount, sticky, (4, 2, 1))
        x, big, opposite = registered(m, True, Cat(x[0] | sticky, x[1:]), big, opposite)

        # add: 24 bits, guard, round and sticky below them, a carry above
        wide = Cat(Const(0, 3), _significand(big))
        total = named(m, (wide + (x ^ opposite.replicate(27)) + opposite)[:28], "total")
        total = Cat(total[:27], total[27] & ~opposite)
        total, head, opposite = registered(m, True, total, big[23:], opposite)

        # normalise
        x, coarse = shift_out(m, total, (16, 8))
        x, coarse, head, opposite = registered(m, True, x, coarse, head, opposite)
        x, fine = shift_out(m, x, (4, 2, 1))
        exponent = (head[:8] + 1 - Cat(fine, coarse))[:8]
        zero = ~x[-1]
        x, exponent, zero, sign = registered(m, True, x, exponent, zero, head[8] & ~(zero & opposite))

        # round: a carry moves on into the exponent
        increment = x[3] & (x[4] | x[:3].any())
        rounded = (Cat(x[4:27], exponent) + increment)[:31]
        m.d.comb += self.o.eq(delayed(m, Cat(Mux(zero, 0, rounded)[:31], sign), 1, reset_less=True))
        return m


def _significand(bits):
    return Cat(bits[:23], bits[23:31].any())
