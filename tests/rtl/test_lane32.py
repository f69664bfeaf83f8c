"""One value through each operation of the units that work on values."""

import numpy as np
import pytest

from gatecast.rtl.values import After, Lane32, Operation

LOW, HIGH = np.float32(-0.5), np.float32(1.25)


def values(rng, count):
    found = (rng.normal(size=count) * 2.0 ** rng.integers(-3, 4, count)).astype(np.float32)
    found[rng.random(count) < 0.1] = 0
    found[rng.random(count) < 0.05] = -0.0
    found[rng.random(count) < 0.05] = HIGH
    found[rng.random(count) < 0.05] = LOW
    return found


@pytest.mark.parametrize("after", list(After), ids=lambda after: after.name.lower())
def test_operations_equal_the_model(through, after):
    rng, unit, inputs, expected = np.random.default_rng(after.value), Lane32(), [], []
    for operation in Operation:
        x, y = values(rng, 200), values(rng, 200)
        y[:20] = x[:20]
        for a, b in zip(x.view(np.uint32), y.view(np.uint32), strict=True):
            inputs.append({"operation": operation, "after": after, "x": int(a), "y": int(b)})
            inputs[-1] |= {"low": int(LOW.view(np.uint32)), "high": int(HIGH.view(np.uint32))}
        expected.append(unit.model(operation, after, x, y, (LOW, HIGH)))
    got = np.array(through(unit, inputs), np.uint32).view(np.float32)
    # whether a zero is -0.0 cannot be seen: each result has + 0.0 added at its end
    assert (got + np.float32(0)).tobytes() == (np.concatenate(expected) + np.float32(0)).tobytes()
