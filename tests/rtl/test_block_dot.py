"""Dot products of a lane with multipliers of its own."""

import numpy as np

from gatecast.rtl.block_dot import BlockDot


def some_blocks(rng, count):
    found = rng.integers(-127, 128, (count, 32)).astype(np.int8)
    found[0], found[1], found[2] = 127, -127, 0
    found[rng.random(found.shape) < 0.1] = 0
    return found


def code(block):
    return int.from_bytes(block.tobytes(), "little")


def test_dot_is_exact(through):
    rng, unit = np.random.default_rng(32), BlockDot()
    a, w = some_blocks(rng, 120), some_blocks(rng, 120)
    a, w = np.concatenate([a, a[:3].repeat(3, axis=0)]), np.concatenate([w, np.tile(w[:3], (3, 1))])
    inputs = [
        {
            "a": code(x),
            "w": code(y),
            "a_exponent": i % 256,
            "w_exponent": 255 - i % 7,
            "take": 1,
        }
        for i, (x, y) in enumerate(zip(a, w, strict=True))
    ]
    assert through(unit, inputs, "dot") == [unit.model(x, y) for x, y in zip(a, w, strict=True)]
    exponents = [i["a_exponent"] + i["w_exponent"] for i in inputs]
    assert through(unit, inputs, "exponent") == exponents


def test_weights_stay_until_others_are_taken(through):
    rng, unit = np.random.default_rng(7), BlockDot()
    a, w, take = some_blocks(rng, 60), some_blocks(rng, 60), rng.random(60) < 0.3
    take[0] = True
    inputs = [
        {"a": code(x), "w": code(y), "w_exponent": i, "take": int(taken)}
        for i, (x, y, taken) in enumerate(zip(a, w, take, strict=True))
    ]
    last = np.maximum.accumulate(np.where(take, np.arange(60), 0))
    assert through(unit, inputs, "dot") == [unit.model(x, w[i]) for x, i in zip(a, last, strict=True)]
    assert through(unit, inputs, "exponent") == last.tolist()
