"""Dot products of two lanes in the same multipliers, with models of an ECP5's cells in their place."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gatecast.rtl.block_dot import sign_magnitude
from gatecast.rtl.carry_cells import INVERTED, SIGNED, Bit, chain
from gatecast.rtl.pair_dot import PairDot

SPECIAL = (-127, -126, -112, -64, -8, -1, 0, 1, 2, 7, 8, 64, 120, 124, 126, 127)
"""Corners, and mantissas of narrow formats: a multiple of 2, 4, 8 or 16."""


def code(block):
    """Bytes of sign and magnitude."""
    return int.from_bytes(bytes(int(v) if v >= 0 else 128 | -int(v) for v in block), "little")


def random_blocks(rng, count, bits=8):
    found = rng.integers(1 - (1 << bits - 1), 1 << bits - 1, (count, 32)) << 8 - bits
    found[rng.random(found.shape) < 0.1] = 0
    return found.astype(np.int8)


def dots(through, a, w0, w1, take=None):
    """What comes out for blocks int8 ``[n, 32]``, both lanes, and what should."""
    unit = PairDot()
    take = np.ones(len(a), bool) if take is None else take
    last = np.maximum.accumulate(np.where(take, np.arange(len(a)), 0))
    inputs = [
        {"a": code(x), "w0": code(y), "w1": code(z), "take": int(t)}
        for x, y, z, t in zip(a, w0, w1, take, strict=True)
    ]
    got = through(unit, inputs, ("dot0", "dot1"))
    return got, [unit.model(x, w0[i], w1[i]) for x, i in zip(a, last, strict=True)]


@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_dots_of_each_format_are_exact(through, modelled, bits):
    rng = np.random.default_rng(bits)
    got, expected = dots(through, *(random_blocks(rng, 60, bits) for _ in range(3)))
    assert got == expected


def test_dots_of_corners_are_exact(through, modelled):
    """All blocks of one value each, and all triples of values in one place or another."""
    rng, triples = np.random.default_rng(1), np.array(list(itertools.product(SPECIAL, repeat=3)), np.int8)
    whole = np.array(list(itertools.product((-127, 0, 127), repeat=3)), np.int8)
    mixed = rng.permutation(triples).reshape(-1, 32, 3)
    blocks = np.concatenate([whole[:, None].repeat(32, axis=1), mixed])
    got, expected = dots(through, *np.moveaxis(blocks, 2, 0))
    assert got == expected


def test_each_product_is_exact_by_itself(through, modelled):
    """One product in each dot: errors cannot make up for each other."""
    rng, count = np.random.default_rng(2), 320
    blocks = np.zeros((3, count, 32), np.int8)
    for n in range(count):
        blocks[:, n, n % 32] = rng.integers(-127, 128, 3) if n % 3 else rng.choice(SPECIAL, 3)
    got, expected = dots(through, *blocks)
    assert got == expected


def test_weights_stay_until_others_are_taken(through, modelled):
    rng = np.random.default_rng(3)
    a, w0, w1 = (random_blocks(rng, 80) for _ in range(3))
    take = rng.random(80) < 0.3
    take[0] = True
    got, expected = dots(through, a, w0, w1, take)
    assert got == expected


def test_exponents_of_both_lanes_are_added(through, modelled):
    inputs = [
        {"a_exponent": n, "w_exponent0": 255 - n % 7, "w_exponent1": n % 5, "take": n % 2 == 0}
        for n in range(40)
    ]
    for lane in range(2):
        expected = [i["a_exponent"] + inputs[n & ~1][f"w_exponent{lane}"] for n, i in enumerate(inputs)]
        assert through(PairDot(), inputs, f"exponent{lane}") == expected


class Signs(wiring.Component):
    latency = 0

    def __init__(self):
        super().__init__({"i": In(256), "o": Out(256)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(sign_magnitude(self.i))
        m.d.sync += Signal().eq(0)
        return m


def test_mantissas_become_sign_and_magnitude(through):
    blocks = np.resize(np.delete(np.arange(-128, 128), 0), (8, 32)).astype(np.int8)
    got = through(Signs(), [{"i": int.from_bytes(block.tobytes(), "little")} for block in blocks])
    assert got == [code(block) for block in blocks]


class Chains(wiring.Component):
    """A chain of each kind, of the same four numbers."""

    latency = 0

    def __init__(self, width):
        names = dict.fromkeys("abcd", In(width))
        super().__init__(names | {"signed": Out(width), "inverted": Out(width)})

    def elaborate(self, platform):
        m = Module()
        for kind, output in ((SIGNED, self.signed), (INVERTED, self.inverted)):
            pins = zip(self.a, self.b, self.c, self.d, strict=True)
            m.d.comb += output.eq(chain(m, [Bit(kind, (a, b), (c, d)) for a, b, c, d in pins]))
        m.d.sync += Signal().eq(0)
        return m


@pytest.mark.parametrize("width", [4, 7])
def test_chains_add_modulo_their_width(through, modelled, width):
    rng, most = np.random.default_rng(width), 1 << width
    inputs = [dict(zip("abcd", map(int, rng.integers(0, most, 4)), strict=True)) for _ in range(100)]
    for output, inverted in (("signed", 0), ("inverted", most - 1)):
        expected = [((i["a"] ^ i["b"] ^ inverted) + (i["c"] ^ i["d"])) % most for i in inputs]
        assert through(Chains(width), inputs, output) == expected
