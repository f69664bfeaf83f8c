"""Products in the carry cells of an ECP5, which has too few multipliers.

Each of a CCU2C's two bits adds two functions of a pair of signals and the carry: partial products and sign
inversions cost no cell of their own. A 7 x 7 bit product takes 58 LUTs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value

from .pipeline import delayed_data

Pair = tuple[Value, Value]
ZERO = Const(0, 1)


@dataclass(frozen=True)
class Sum:
    """What one bit of a chain adds: ``left(a, b) + right(c, d)``."""

    left: Callable
    right: Callable

    @property
    def init(self) -> int:
        """Truth table of the cell: ``left ^ right`` for each of a, b, c, d."""
        table = 0
        for i in range(16):
            a, b, c, d = (i >> k & 1 for k in range(4))
            table |= (self.left(a, b) ^ self.right(c, d)) << i
        return table


ROWS = Sum(lambda a, b: a & b, lambda c, d: c & d)
"""Two rows of partial products."""

SIGNED = Sum(lambda a, b: a ^ b, lambda c, d: c ^ d)
"""Two numbers, each inverted if its sign is set."""

ROW = Sum(lambda a, b: a & b, lambda c, d: c)
"""A row of partial products and a number."""


def chain(m: Module, kind: Sum, xs: Sequence[Pair], ys: Sequence[Pair], width: int, cells: bool) -> Value:
    """Sum modulo ``2**width``, bit i from the pairs ``xs[i]`` and ``ys[i]``.

    With `cells` made of CCU2C, else of plain operators with the same result.
    """
    pairs = list(zip(xs, ys, strict=False))[:width]
    pairs += [((ZERO, ZERO), (ZERO, ZERO))] * (width + width % 2 - len(pairs))
    total, carry = Signal(len(pairs), name="chain"), ZERO
    if not cells:
        left, right = Cat(kind.left(*x) for x, _ in pairs), Cat(kind.right(*y) for _, y in pairs)
        m.d.comb += total.eq(left + right)
        return total[:width]
    for i in range(0, len(pairs), 2):
        carry_out = Signal(name="carry")
        ((a0, b0), (c0, d0)), ((a1, b1), (c1, d1)) = pairs[i : i + 2]
        m.submodules += Instance(
            "CCU2C",
            p_INIT0=Const(kind.init, 16),
            p_INIT1=Const(kind.init, 16),
            p_INJECT1_0="NO",
            p_INJECT1_1="NO",
            **dict(i_A0=a0, i_B0=b0, i_C0=c0, i_D0=d0, i_A1=a1, i_B1=b1, i_C1=c1, i_D1=d1),
            i_CIN=carry,
            o_COUT=carry_out,
            o_S0=total[i],
            o_S1=total[i + 1],
        )
        carry = carry_out
    return total[:width]


def magnitude_product(m: Module, a: Value, b: Value, cells: bool) -> Value:
    """7 x 7 bit unsigned product, two cycles later."""

    def bit(x, i):
        return x[i] if 0 <= i < len(x) else ZERO

    def add(x, y, shift, width):  # (x + (y << shift)) modulo 2**width
        span = width - shift
        xs = [(bit(x, shift + i), ZERO) for i in range(span)]
        ys = [(bit(y, i), ZERO) for i in range(span)]
        return Cat(x[:shift], chain(m, SIGNED, xs, ys, span, cells))

    rows = []
    for j in (0, 2, 4):
        xs = [(bit(a, i), b[j]) for i in range(8)]
        ys = [(bit(a, i - 1), b[j + 1]) for i in range(8)]
        rows.append(delayed_data(m, chain(m, ROWS, xs, ys, 9, cells), 1))
    a_late, b_late = delayed_data(m, a, 1), delayed_data(m, b[6], 1)
    xs = [(bit(a_late, i), b_late) for i in range(8)]
    ys = [(bit(rows[2], i + 2), ZERO) for i in range(8)]
    high = Cat(rows[2][:2], chain(m, ROW, xs, ys, 8, cells))  # rows 4, 5, 6
    low = add(rows[0], rows[1], 2, 11)
    return delayed_data(m, add(low, high, 4, 14), 1)
