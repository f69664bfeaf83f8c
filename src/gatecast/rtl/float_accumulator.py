"""float32 sums of integer dot products, one rounding for each. See docs/spec/numerics.md §2."""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..numerics import BLOCK_SIZE
from .pipeline import named, registered, shift_out, shift_right_sticky

DOT_BITS = (BLOCK_SIZE * 127 * 127).bit_length() + 1
"""Bits of the dot product of two blocks."""

EXPONENT_BITS = 9
"""Bits of the sum of two exponent bytes."""

_BIAS = 127 + 127 + 6 + 6 - 18 - 127
"""From a sum of exponent bytes to the exponent of bit 18 of the dot product; mantissas of 8 bits."""

PIPELINES = {
    9: ("read", "compare", "swap", "align_coarse", "align_fine", "add", "normalise_coarse", "normalise_fine"),
    7: ("compare", "swap", "align_fine", "add", "normalise_coarse", "normalise_fine"),
    5: ("compare", "align_coarse", "add", "normalise_fine"),
    1: (),
}
"""For each loop latency, the boundaries that carry a register. 7 is the best cut on ECP5."""


def read_latency(latency: int) -> int:
    """Cycles from a dot product to the read of its slot, for an accumulator of this loop latency."""
    return 2 if "read" in PIPELINES[latency] else 3


def accumulator_members(slots: int) -> dict[str, wiring.Member]:
    """Ports of a `FloatAccumulator`."""
    return {
        "dot": In(signed(DOT_BITS)),
        "exponent": In(EXPONENT_BITS),
        "read_slot": In(range(slots)),
        "first": In(1),
        "write_slot": In(range(slots)),
        "write": In(1),
        "preset_slot": In(range(slots)),
        "preset": In(1),
        "preset_sum": In(34),
        "sum": Out(34),
    }


class FloatAccumulator(wiring.Component):
    """``sums[slot] = fl32((0 if first else sums[slot]) + dot * 2**scale)``, a slot each cycle.

    A sum is held as ``significand * 2**(exponent - 150)`` with a two's complement significand,
    ``2**23 <= |significand| <= 2**24`` (both ends allowed), or both fields 0 for zero. That needs no
    comparison of magnitudes and no negation in the loop, and rounds to the same value as sign and magnitude,
    since ties to even are symmetric; 2**24 spares a shift after a rounding carry. `to_float32` makes the IEEE
    bits. The contract excludes subnormals, overflow, infinity and NaN; a sum is never -0.0.

    Parameters
    ----------
    latency : int
        Cycles from the read of a slot until it may be read again, a key of `PIPELINES`.
    slots : int
        Sums. At least `latency` of them must take turns, or bubbles take their place.

    Members
    -------
    dot, exponent : In
        Dot product of two blocks and the sum of their exponent bytes.
    read_slot, first : In
        `read_latency` cycles after `dot`: which sum, and whether it begins anew.
    write_slot, write : In
        `latency` - 1 cycles after `read_slot`: the same slot.
    preset_slot, preset, preset_sum : In
        Set a sum, while no other is written.
    sum : Out(34)
        Significand and exponent, in the cycle of `write`.
    """

    def __init__(self, latency: int = 7, slots: int = 16):
        cuts = PIPELINES[latency]
        self.cuts = [name in cuts for name in PIPELINES[9]]
        self.latency, self.slots = latency, slots
        self.read_latency = read_latency(latency)
        super().__init__(accumulator_members(slots))

    def model(self, total: np.float32, dot: int, exponent: int) -> np.float32:
        """The sum after one step."""
        return np.float32(total + np.float32(dot * 2.0 ** (exponent - 2 * 127 - 2 * 6)))

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        read, *cuts = self.cuts
        addend = self._normalised(m, read)
        m.submodules.sums = ram = memory.Memory(shape=34, depth=self.slots, init=[])
        read_port, write_port = ram.read_port(domain="comb"), ram.write_port()
        m.d.comb += read_port.addr.eq(self.read_slot)
        word = read_port.data & (~self.first).replicate(34)
        total = (word[:26].as_signed(), word[26:])
        m.d.comb += [
            self.sum.eq(_added(m, cuts, *registered(m, read, *total, *addend))),
            write_port.addr.eq(Mux(self.preset, self.preset_slot, self.write_slot)),
            write_port.data.eq(Mux(self.preset, self.preset_sum, self.sum)),
            write_port.en.eq(self.write | self.preset),
        ]
        return m

    def _normalised(self, m, read):
        """Addend of 20 bits whose top two differ or are all 0, and its exponent; outside the loop."""
        unbiased = named(m, (self.exponent - _BIAS)[:8], "unbiased")
        x, coarse = shift_out(m, self.dot, (16, 8), sign=True)
        x, coarse, exponent = registered(m, True, x, coarse, unbiased)
        x, fine = shift_out(m, x, (4, 2, 1), sign=True)
        addend, taken, exponent = registered(m, True, x, Cat(fine, coarse), exponent)
        nonzero = addend[-1] | addend[-2]
        exponent = named(m, (exponent - taken)[:8] & nonzero.replicate(8), "addend_exponent")
        return registered(m, not read, addend, exponent)


def _added(m, cuts, total, e_total, addend, e_addend):
    """Sum of a total and an addend, rounded: significand and exponent."""
    compare, swap, align_coarse, align_fine, add, normalise_coarse, normalise_fine = cuts

    # which exponent is larger, and by how much
    down, up = named(m, e_total - e_addend, "down"), named(m, e_addend - e_total, "up")
    total, e_total, addend, e_addend, down, up = registered(
        m, compare, total, e_total, addend, e_addend, down, up
    )

    # the smaller exponent's significand is shifted right; 31 places are as good as more
    total_small = down[-1]
    wide = Cat(Const(0, 5), addend, addend[-1]).as_signed()
    big, small = (
        named(m, Mux(total_small, wide, total), "big"),
        named(m, Mux(total_small, total, wide), "small"),
    )
    e_big = Mux(total_small, e_addend, e_total)
    far = Mux(total_small, up[5:8].any(), down[5:8].any())
    amount = named(m, Mux(total_small, up[:5], down[:5]) | far.replicate(5), "amount")
    big, small, e_big, amount = registered(m, swap, big, small, e_big, amount)

    # align, keeping a guard and a round bit; below them only "something was there"
    x = named(m, Cat(Const(0, 2), small).as_signed(), "aligned")
    x, sticky = shift_right_sticky(m, x, amount, Const(0, 1), (16, 8))
    x, sticky, amount, big, e_big = registered(m, align_coarse, x, sticky, amount[:3], big, e_big)
    x, sticky = shift_right_sticky(m, x, amount, sticky, (4, 2, 1))
    x, sticky, big, e_big = registered(m, align_fine, x, sticky, big, e_big)

    # the larger operand has nothing at the guard and round bits; the sum has 26 bits above them
    x = named(m, Cat(x[:2], (big + (x >> 2))[:26]).as_signed(), "total")
    x, sticky, e_big = registered(m, add, x, sticky, (e_big + 1)[:8])

    x, coarse = shift_out(m, x, (16, 8), sign=True)
    x, coarse, sticky, e_big = registered(m, normalise_coarse, x, coarse, sticky, e_big)
    x, fine = shift_out(m, x, (4, 2, 1), sign=True)
    x, taken, sticky, e_big = registered(m, normalise_fine, x, Cat(fine, coarse), sticky, e_big)

    increment = x[2] & (x[3] | x[1] | x[0] | sticky)
    nonzero = x[-1] | x[-2]
    significand = named(m, (x[3:].as_signed() + increment)[:26], "significand")
    return Cat(significand, (e_big - taken)[:8] & nonzero.replicate(8))


def to_float32(m: Module, sum_):
    """IEEE bits of a sum of `FloatAccumulator`."""
    significand, exponent = sum_[:26].as_signed(), sum_[26:]
    magnitude = named(m, Mux(significand[-1], -significand, significand)[:25], "magnitude")
    return Cat(magnitude[:23], (exponent + magnitude[24])[:8], significand[-1])


def sum_value(code: int) -> np.float32:
    """What a sum of `FloatAccumulator` stands for."""
    significand = (code & (1 << 26) - 1) - ((code >> 25 & 1) << 26)
    return np.float32(significand * 2.0 ** ((code >> 26) - 150))


def from_float32(bits):
    """Sum of `FloatAccumulator` that stands for IEEE bits of a normal number or zero."""
    exponent = bits[23:31]
    magnitude = Cat(bits[:23], exponent.any(), Const(0, 2)) & exponent.any().replicate(26)
    return Cat(Mux(bits[31], -magnitude, magnitude)[:26], exponent)
