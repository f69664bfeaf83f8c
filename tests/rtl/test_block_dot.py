"""Dot products, with multipliers and in carry cells."""

import numpy as np
import pytest
from amaranth.hdl import Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from gatecast.rtl.block_dot import BlockDot, sign_magnitude


def some_blocks(rng, count):
    found = rng.integers(-127, 128, (count, 32)).astype(np.int8)
    found[0], found[1], found[2] = 127, -127, 0
    found[rng.random(found.shape) < 0.1] = 0
    return found


def code(block, multipliers):
    parts = [int(v) & 255 if i < multipliers or v >= 0 else 128 | -int(v) for i, v in enumerate(block)]
    return int.from_bytes(bytes(parts), "little")


@pytest.mark.parametrize("multipliers", [32, 18, 16])
def test_dot_is_exact(through, multipliers):
    rng, unit = np.random.default_rng(multipliers), BlockDot(multipliers)
    a, w = some_blocks(rng, 120), some_blocks(rng, 120)
    a, w = np.concatenate([a, a[:3].repeat(3, axis=0)]), np.concatenate([w, np.tile(w[:3], (3, 1))])
    inputs = [
        {
            "a": code(x, multipliers),
            "w": code(y, multipliers),
            "a_exponent": i % 256,
            "w_exponent": 255 - i % 7,
            "take": 1,
        }
        for i, (x, y) in enumerate(zip(a, w, strict=True))
    ]
    assert through(unit, inputs, "dot") == [unit.model(x, y) for x, y in zip(a, w, strict=True)]
    exponents = [i["a_exponent"] + i["w_exponent"] for i in inputs]
    assert through(unit, inputs, "exponent") == exponents


@pytest.mark.parametrize("multipliers", [32, 16])
def test_weights_stay_until_others_are_taken(through, multipliers):
    rng, unit = np.random.default_rng(7), BlockDot(multipliers)
    a, w, take = some_blocks(rng, 60), some_blocks(rng, 60), rng.random(60) < 0.3
    take[0] = True
    inputs = [
        {"a": code(x, multipliers), "w": code(y, multipliers), "w_exponent": i, "take": int(taken)}
        for i, (x, y, taken) in enumerate(zip(a, w, take, strict=True))
    ]
    last = np.maximum.accumulate(np.where(take, np.arange(60), 0))
    assert through(unit, inputs, "dot") == [unit.model(x, w[i]) for x, i in zip(a, last, strict=True)]
    assert through(unit, inputs, "exponent") == last.tolist()


class Signs(wiring.Component):
    latency = 0

    def __init__(self):
        super().__init__({"i": In(256), "o": wiring.Out(256)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(sign_magnitude(self.i, 16))
        unused = Signal()
        m.d.sync += unused.eq(Const(0))
        return m


def test_upper_elements_become_sign_and_magnitude(through):
    blocks = some_blocks(np.random.default_rng(5), 20)
    got = through(Signs(), [{"i": code(block, 32)} for block in blocks])
    assert got == [code(block, 16) for block in blocks]
