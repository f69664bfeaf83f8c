"""Dot products of two lanes in the same multipliers of an ECP5, which has too few for one each.

Both lanes multiply the same activations, and magnitudes have 7 bits. So one multiplier of 18 bits makes
``|a| * (|w1| * 2**11 + |w0|)``, which is ``upper * 2**11 + lower`` with products of 14 bits: they overlap in
three bits. The three low bits of the upper product are cheap to make anew from those of its factors. Taken
off the multiplier's bits there they leave the three high bits of the lower product, and a borrow from the
other bits of the upper one.
"""

import numpy as np
from amaranth.hdl import Cat, Const, Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .block_dot import DOT_LATENCY, MANTISSAS, exponent_sum, halved
from .carry_cells import INVERTED, SIGNED, ZERO, Bit, chain
from .float_accumulator import DOT_BITS, EXPONENT_BITS
from .multiplier_cells import kept, unsigned_product
from .pipeline import delayed_data

SHIFT = 11
"""Bits from the lower product to the upper one."""

PRODUCT_BITS = 14
"""Bits of a product of magnitudes."""


class PairDot(wiring.Component):
    """Two `BlockDot` of the same activations, made of the cells of an ECP5.

    Members
    -------
    a, w0, w1 : In(256)
        Mantissas as `sign_magnitude` gives them.
    a_exponent, w_exponent0, w_exponent1 : In(8)
        Exponent bytes.
    take : In(1)
        Whether weights and their exponents are taken in this cycle; else the last ones taken stay.
    dot0, dot1, exponent0, exponent1 : Out
        Dot products, and sums of the exponent bytes, `DOT_LATENCY` cycles later.
    """

    latency = DOT_LATENCY

    def __init__(self):
        super().__init__(
            {
                "a": In(MANTISSAS),
                "a_exponent": In(8),
                "take": In(1),
                **{f"w{n}": In(MANTISSAS) for n in range(2)},
                **{f"w_exponent{n}": In(8) for n in range(2)},
                **{f"dot{n}": Out(signed(DOT_BITS)) for n in range(2)},
                **{f"exponent{n}": Out(EXPONENT_BITS) for n in range(2)},
            }
        )

    def model(self, a: np.ndarray, *weights: np.ndarray) -> tuple[int, ...]:
        """What `dot0` and `dot1` carry, for int8 mantissas."""
        return tuple(int(a.astype(np.int64) @ w.astype(np.int64)) for w in weights)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        places = [slice(i, i + 8) for i in range(0, MANTISSAS, 8)]
        found = [_products(m, self.a[i], self.w0[i], self.w1[i], self.take) for i in places]
        lowers, uppers, borrows = zip(*found, strict=True)
        counts = [_count(m, [sign for _, sign in products]) for products in (lowers, uppers)]
        # a borrow weighs -8, or +8 where its sign is set: what is counted is whether the two differ
        missing = [Cat(counts[0], ZERO), counts[1] + ((counts[1] - _count(m, borrows)) << 3)]
        for lane, products in enumerate((lowers, uppers)):
            w_exponent = getattr(self, f"w_exponent{lane}")
            exponent = exponent_sum(m, self.a_exponent, w_exponent, self.take)
            m.d.comb += [
                getattr(self, f"dot{lane}").eq(
                    _dot(m, products, _corrected(missing[lane], counts[lane]), inverted=lane == 0)
                ),
                getattr(self, f"exponent{lane}").eq(exponent),
            ]
        return m


def _products(m, a, w0, w1, take):
    """The lower and the upper product with their signs, and the borrow, two cycles later.

    The lower product's three high bits are inverted, and the borrow if the upper sign is set.
    """
    product = unsigned_product(m, a[:7], Cat(w0[:7], Const(0, SHIFT - 7), w1[:7]), take)
    a_sign = delayed_data(m, a[7], 1)
    signs = [delayed_data(m, a_sign ^ kept(m, w[7], take), 1) for w in (w0, w1)]
    low = delayed_data(m, _low_bits(delayed_data(m, a[:3], 1), kept(m, w1[:3], take)), 1)
    bits = [Bit(INVERTED, (product[SHIFT + k], ZERO), (low[k], ZERO)) for k in range(3)]
    found = chain(m, [*bits, Bit(SIGNED, (signs[1], ZERO), (ZERO, ZERO))])  # low - product - 1
    lower, upper = Cat(product[:SHIFT], found[:3]), Cat(low, product[SHIFT + 3 :])
    return (lower, signs[0]), (upper, signs[1]), found[3]


def _low_bits(a, w):
    """Three low bits of a product."""
    one = (a[1] & w[0]) ^ (a[0] & w[1])
    two = (a[2] & w[0]) ^ (a[0] & w[2]) ^ (a[1] & w[1] & ~(a[0] & w[0]))
    return Cat(a[0] & w[0], one, two)


def _count(m, bits):
    """How many bits are set, three cycles later."""
    columns = [list(bits)]  # of a weight each
    for levels in (1, 2):
        for _ in range(levels):
            columns = _compressed(columns)
        columns = [[*delayed_data(m, Cat(column), 1)] for column in columns]
    while max(map(len, columns)) > 2:
        columns = _compressed(columns)
    rows = [Cat(column[n] if n < len(column) else ZERO for column in columns) for n in range(2)]
    return delayed_data(m, (rows[0] + rows[1])[: len(bits).bit_length()], 1)


def _compressed(columns):
    """Of three bits of a weight their sum, and the carry into the next weight."""
    found = [[] for _ in range(len(columns) + 1)]
    for weight, column in enumerate(columns):
        whole = len(column) // 3 * 3
        for i in range(0, whole, 3):
            a, b, c = column[i : i + 3]
            found[weight].append(a ^ b ^ c)
            found[weight + 1].append((a & b) | (c & (a ^ b)))
        found[weight] += column[whole:]
    return found if found[-1] else found[:-1]


def _corrected(missing, negative):
    """What a sum of inverted products is `missing` at its lower end, and the signs of those `negative` above.

    An inverted product has no bits above its own: ``2**14`` is to be taken off for each of them.
    """
    low = Cat(missing, missing[-1].replicate(PRODUCT_BITS))[:PRODUCT_BITS]
    return Cat(low, (~negative + ~low[-1])[: DOT_BITS - PRODUCT_BITS])


def _dot(m, products, missing, inverted):
    """The sum of products, each inverted by its sign, and of what they are `missing`."""
    pairs = zip(products[::2], products[1::2], strict=True)
    level = [delayed_data(m, _sum_of_two(m, *pair, inverted), 1) for pair in pairs]
    first, second = halved(m, halved(m, halved(m, level)))
    # a chain of its own: a sum of three numbers would be made of twice as many cells
    bits = zip(Cat(first, Const(0, DOT_BITS - len(first))), delayed_data(m, missing, 1), strict=True)
    corrected = chain(m, [Bit(SIGNED, (a, ZERO), (b, ZERO)) for a, b in bits])
    return delayed_data(m, corrected + second, 1)


def _sum_of_two(m, left, right, inverted):
    """Sum of two products, each inverted by its sign; with `inverted`, their three high bits are so."""
    (x, x_sign), (y, y_sign) = left, right
    bits = [Bit(SIGNED, (a, x_sign), (b, y_sign)) for a, b in zip(x, y, strict=True)]
    if inverted:
        bits[SHIFT:] = [Bit(INVERTED, bit.left, (bit.right[0], ~y_sign)) for bit in bits[SHIFT:]]
    return chain(m, [*bits, Bit(SIGNED, (ZERO, ZERO), (ZERO, ZERO))])
