"""Sums in the carry cells of an ECP5.

Each of a CCU2C's two bits adds two functions of a pair of signals and the carry: inversions by a sign cost no
cell of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amaranth.hdl import Const, Instance, Module, Signal, Value

Pair = tuple[Value, Value]
ZERO = Const(0, 1)


@dataclass(frozen=True)
class Sum:
    """What one bit of a chain adds: ``left(a, b) + right(c, d)``; the cell asks for ``right(0, 0) == 0``."""

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


SIGNED = Sum(lambda a, b: a ^ b, lambda c, d: c ^ d)
"""Two numbers, each inverted if its sign is set."""

INVERTED = Sum(lambda a, b: a ^ b ^ 1, lambda c, d: c ^ d)
"""The same, and the left number inverted once more."""


@dataclass(frozen=True)
class Bit:
    """One bit of a chain: what it adds, and of what."""

    kind: Sum
    left: Pair
    right: Pair


def chain(m: Module, bits: Sequence[Bit]) -> Value:
    """Sum of the bits in a chain of CCU2C, modulo ``2**len(bits)``."""
    # an empty half comes first: a chain that begins with it does not depend on a carry into it, which would
    # have to come from a cell
    padding = len(bits) % 2
    padded = [Bit(SIGNED, (ZERO, ZERO), (ZERO, ZERO))] * padding + [*bits]
    total, carry = Signal(len(padded), name="chain"), ZERO
    for i in range(0, len(padded), 2):
        carry_out = Signal(name="carry")
        ports: dict[str, object] = {}
        for half, bit in enumerate(padded[i : i + 2]):
            pins = zip("ABCD", (*bit.left, *bit.right), strict=True)
            ports |= {f"i_{pin}{half}": signal for pin, signal in pins}
            ports |= {f"p_INIT{half}": Const(bit.kind.init, 16), f"p_INJECT1_{half}": "NO"}
            ports[f"o_S{half}"] = total[i + half]
        m.submodules += Instance("CCU2C", i_CIN=carry, o_COUT=carry_out, **ports)
        carry = carry_out
    return total[padding:]
