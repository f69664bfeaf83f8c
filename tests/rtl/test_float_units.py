"""float32 adder and multiplier against NumPy, bit for bit."""

import numpy as np
import pytest

from gatecast.rtl.float_adder import FloatAdder
from gatecast.rtl.float_multiplier import FloatMultiplier

CORNERS = np.array(
    [0x00000000, 0x80000000, 0x3F800000, 0xBF800000, 0x3F7FFFFF, 0x3F800001, 0x4B7FFFFF], np.uint32
)


def floats(rng, count, spread):
    exponents = 127 + rng.integers(-spread, spread + 1, count)
    found = (rng.integers(0, 2, count) << 31 | exponents << 23 | rng.integers(0, 1 << 23, count)).astype(
        np.uint32
    )
    found[rng.random(count) < 0.05] = 0
    return found


def near(rng, a):
    """Operands that cancel most of `a`, tie with it, or lie half a step away."""
    values = a.view(np.float32)
    ulp = np.spacing(np.abs(values) + np.float32(1e-30))
    parts = rng.choice([0.5, 0.25, 0.75, 1.0, 1.5, 0.5000001, -0.5, -0.4999999], len(a)).astype(np.float32)
    cancel = -values + rng.integers(-3, 4, len(a)).astype(np.float32) * ulp
    return np.where(rng.random(len(a)) < 0.5, ulp * parts, cancel).astype(np.float32).view(np.uint32)


def pairs(seed, count=3000):
    rng = np.random.default_rng(seed)
    a = np.concatenate([floats(rng, count, 3), floats(rng, count, 30), np.repeat(CORNERS, len(CORNERS))])
    b = np.concatenate([floats(rng, count, 3), floats(rng, count, 30), np.tile(CORNERS, len(CORNERS))])
    return a, b


def check(through, unit, a, b):
    got = through(unit, [{"a": int(x), "b": int(y)} for x, y in zip(a, b, strict=True)])
    expected = unit.model(a.view(np.float32), b.view(np.float32))
    wrong = np.flatnonzero(np.array(got, np.uint32) != np.asarray(expected, np.float32).view(np.uint32))
    assert not wrong.size, [(hex(a[i]), hex(b[i]), hex(got[i])) for i in wrong[:5]]


@pytest.mark.filterwarnings("ignore:.*encountered")
def test_sums_equal_numpy(through):
    a, b = pairs(0)
    extra = floats(np.random.default_rng(1), 3000, 20)
    awkward = near(np.random.default_rng(2), extra)
    check(through, _vectorised(FloatAdder()), np.concatenate([a, extra]), np.concatenate([b, awkward]))


def test_products_equal_numpy(through):
    check(through, _vectorised(FloatMultiplier()), *pairs(3))


def test_products_that_end_on_a_tie_go_to_even(through):
    rng = np.random.default_rng(4)
    a = (127 << 23 | rng.integers(0, 1 << 12, 500) << 11).astype(np.uint32)
    b = (127 << 23 | rng.integers(0, 1 << 12, 500) << 11).astype(np.uint32)
    check(through, _vectorised(FloatMultiplier()), a, b)


def _vectorised(unit):
    operation = np.add if isinstance(unit, FloatAdder) else np.multiply
    unit.model = lambda a, b: operation(a, b)
    return unit
