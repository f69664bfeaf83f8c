"""Exact dot product of two blocks. See docs/spec/numerics.md §2."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..numerics import BLOCK_SIZE
from .carry_cells import SIGNED, ZERO, chain, magnitude_product
from .float_accumulator import DOT_BITS, EXPONENT_BITS
from .multiplier_cells import PRODUCT_LATENCY, kept, signed_product
from .pipeline import delayed, delayed_data

MANTISSAS = 8 * BLOCK_SIZE
"""Bits of a block's mantissas on chip: each left-aligned in a byte, so that all formats look like bfp8."""

BLOCK_BITS = MANTISSAS + 8
"""Bits of a block on chip: mantissas, then the exponent byte."""


def dot_latency(multipliers: int) -> int:
    """Cycles through a `BlockDot`; carry cells take one more."""
    return 7 if multipliers == BLOCK_SIZE else 8


class BlockDot(wiring.Component):
    """Multiply two blocks value by value and add the products; a block each cycle.

    Parameters
    ----------
    multipliers : int
        Products made by multipliers, an even number; the rest are made in carry cells.
    cells : bool
        Whether multipliers and carry cells are an ECP5's, or plain operators.

    Members
    -------
    a, w : In(256)
        Mantissas, a byte each; from `multipliers` on as sign and magnitude (`sign_magnitude`).
    a_exponent, w_exponent : In(8)
        Exponent bytes.
    take : In(1)
        Whether `w` and `w_exponent` are taken in this cycle; else the last ones taken stay.
    dot, exponent : Out
        Dot product, and sum of the exponent bytes, `latency` cycles later.
    """

    def __init__(self, multipliers: int = BLOCK_SIZE, cells: bool = False):
        self.multipliers, self.cells = multipliers, cells
        self.latency = dot_latency(multipliers)
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
        soft = slice(8 * self.multipliers, MANTISSAS)
        multiplied = [(self.a[8 * i : 8 * i + 8], self.w[8 * i : 8 * i + 8]) for i in range(self.multipliers)]
        # the product's own registers, where the carry cells take one cycle more than a multiplier
        latency = PRODUCT_LATENCY if self.multipliers < BLOCK_SIZE else PRODUCT_LATENCY - 1
        products = [signed_product(m, x, y, self.take, latency, self.cells) for x, y in multiplied]
        level = [p + q for p, q in zip(products[::2], products[1::2], strict=True)]
        if self.multipliers < BLOCK_SIZE:
            level = self._add_soft(
                m,
                level,
                delayed(m, self.a[soft], 1, attrs={"keep": 1}, reset_less=True),
                kept(m, self.w[soft], self.take),
            )
        level = [_registered_sum(m, x) for x in level]
        while len(level) > 1:
            level = [_registered_sum(m, x + y) for x, y in zip(level[::2], level[1::2], strict=True)]
        exponents = delayed_data(m, self.a_exponent, 1) + kept(m, self.w_exponent, self.take)
        m.d.comb += [self.dot.eq(level[0]), self.exponent.eq(delayed_data(m, exponents, self.latency - 1))]
        return m

    def _add_soft(self, m, level, a, w):
        """The sums of pairs, and those of products in carry cells.

        A negative product is inverted on its way into the sum; the ones that this lacks are counted.
        """
        pairs = [(a[i : i + 8], w[i : i + 8]) for i in range(0, len(a), 8)]
        signs = [x[7] ^ y[7] for x, y in pairs]
        soft = [magnitude_product(m, x[:7], y[:7], self.cells) for x, y in pairs]
        threes = [delayed_data(m, sum(signs[i : i + 3], ZERO)[:2], 1) for i in range(0, len(signs), 3)]
        level = [level[0] + delayed_data(m, sum(threes, ZERO)[:5], 1), *level[1:]]
        late = [delayed_data(m, sign, 2) for sign in signs]
        for i in range(0, len(soft), 2):
            operands = [
                [(p[k] if k < 14 else ZERO, sign) for k in range(16)]
                for p, sign in zip(soft[i : i + 2], late[i : i + 2], strict=True)
            ]
            level.append(chain(m, SIGNED, *operands, 16, self.cells).as_signed())
        return level


def _registered_sum(m: Module, x: Value) -> Value:
    late = delayed_data(m, x, 1)
    return late.as_signed() if Value.cast(x).shape().signed else late


def sign_magnitude(mantissas: Value, multipliers: int) -> Value:
    """Mantissas as `BlockDot` wants them: sign and magnitude from element `multipliers` on."""
    found = []
    for i in range(BLOCK_SIZE):
        x = mantissas[8 * i : 8 * i + 8]
        found.append(x if i < multipliers else Cat(Mux(x[7], -x, x)[:7], x[7]))
    return Cat(found)
