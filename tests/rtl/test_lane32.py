"""One value through each operation of the units that work on values."""

import numpy as np
import pytest

from gatecast.rtl.values import Lane32, Operation

LOW, HIGH = np.float32(-0.5), np.float32(1.25)


def values(rng, count):
    found = (rng.normal(size=count) * 2.0 ** rng.integers(-3, 4, count)).astype(np.float32)
    found[rng.random(count) < 0.1] = 0
    found[rng.random(count) < 0.05] = -0.0
    found[rng.random(count) < 0.05] = HIGH
    found[rng.random(count) < 0.05] = LOW
    return found


@pytest.mark.parametrize("limits", [None, (LOW, HIGH), (np.float32(-2), np.float32(-0.75))])
def test_operations_equal_the_model(through, limits):
    rng, unit, inputs, expected = np.random.default_rng(7), Lane32(), [], []
    low, high = (int(limit.view(np.uint32)) for limit in limits or (LOW, HIGH))
    for operation in Operation:
        x, y = values(rng, 200), values(rng, 200)
        y[:20] = x[:20]
        for a, b in zip(x.view(np.uint32), y.view(np.uint32), strict=True):
            inputs.append({"operation": operation, "x": int(a), "y": int(b)})
            inputs[-1] |= {"clip": limits is not None, "low": low, "high": high}
        expected.append(unit.model(operation, x, y, limits))
    got = np.array(through(unit, inputs), np.uint32).view(np.float32)
    # whether a zero is -0.0 cannot be seen: each result has + 0.0 added at its end
    assert (got + np.float32(0)).tobytes() == (np.concatenate(expected) + np.float32(0)).tobytes()
