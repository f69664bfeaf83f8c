"""Exact dot product of two blocks. See docs/spec/numerics.md §2."""

import numpy as np
from amaranth.hdl import Cat, Module, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..numerics import BLOCK_SIZE
from .float_accumulator import DOT_BITS, EXPONENT_BITS
from .multiplier_cells import kept
from .pipeline import delayed_data

MANTISSAS = 8 * BLOCK_SIZE
"""Bits of a block's mantissas on chip: each left-aligned in a byte, so that all formats look like bfp8."""

BLOCK_BITS = MANTISSAS + 8
"""Bits of a block on chip: mantissas, then the exponent byte."""

DOT_LATENCY = 7
"""Cycles through a `BlockDot`, or a `PairDot`."""


class BlockDot(wiring.Component):
    """Multiply two blocks value by value and add the products; a block each cycle.

    Members
    -------
    a, w : In(256)
        Mantissas, a byte each.
    a_exponent, w_exponent : In(8)
        Exponent bytes.
    take : In(1)
        Whether `w` and `w_exponent` are taken in this cycle; else the last ones taken stay.
    dot, exponent : Out
        Dot product, and sum of the exponent bytes, `DOT_LATENCY` cycles later.
    """

    latency = DOT_LATENCY

    def __init__(self):
        super().__init__(
            {
                "a": In(MANTISSAS),
                "w": In(MANTISSAS),
                "a_exponent": In(8),
                "w_exponent": In(8),
                "take": In(1),
                "dot": Out(signed(DOT_BITS)),
                "exponent": Out(EXPONENT_BITS),
            }
        )

    def model(self, a: np.ndarray, w: np.ndarray) -> int:
        """What `dot` carries, for int8 mantissas."""
        return int(a.astype(np.int64) @ w.astype(np.int64))

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        level = [self._product(m, slice(i, i + 8)) for i in range(0, MANTISSAS, 8)]
        while len(level) > 1:
            level = halved(m, level)
        exponent = exponent_sum(m, self.a_exponent, self.w_exponent, self.take)
        m.d.comb += [self.dot.eq(level[0]), self.exponent.eq(exponent)]
        return m

    def _product(self, m, byte):
        """Product of two bytes, two cycles later; -128 times itself is none: mantissas are symmetric."""
        a, w = delayed_data(m, self.a[byte], 1), kept(m, self.w[byte], self.take)
        return delayed_data(m, (a.as_signed() * w.as_signed())[:15], 1).as_signed()


def halved(m: Module, level: list[Value]) -> list[Value]:
    """Sums of two numbers each, in registers."""
    sums = [Value.cast(x + y) for x, y in zip(level[::2], level[1::2], strict=True)]
    late = [delayed_data(m, x, 1) for x in sums]
    return [y.as_signed() if x.shape().signed else y for x, y in zip(sums, late, strict=True)]


def exponent_sum(m: Module, a: Value, w: Value, take: Value) -> Value:
    """Sum of two exponent bytes, `DOT_LATENCY` cycles later; `w` is kept as the weights are."""
    return delayed_data(m, delayed_data(m, a, 1) + kept(m, w, take), DOT_LATENCY - 1)


def sign_magnitude(mantissas: Value) -> Value:
    """Mantissas as `PairDot` wants them: magnitude, 7 bits, and sign; -128 is none."""
    found = []
    for i in range(0, len(mantissas), 8):
        x, sign = mantissas[i : i + 7], mantissas[i + 7]
        # a bit of -x is that of x above the lowest bit that is set, and inverted from there on
        found += [x[0], *(x[k] ^ (sign & x[:k].any()) for k in range(1, 7)), sign]
    return Cat(found)
