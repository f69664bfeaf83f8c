"""Equality 1: the C++ extension gives the bits of the array version, and so of the scalar definition."""

import numpy as np
import pytest

from gatecast.errors import FormatError
from gatecast.numerics import FORMATS, array

native = pytest.importorskip("gatecast.numerics.native", reason="needs the extension gatecast._native")


def hard_values(rng, shape):
    """Sizes from far below the smallest exponent to far above the largest; ties, tops, zeros ."""
    x = rng.normal(size=shape) * np.exp2(rng.integers(-90, 64, (*shape[:-1], 1)))
    tie = rng.random(shape) < 0.3
    power = np.exp2(np.floor(np.log2(np.abs(x[tie]) + 2.0**-100)))
    x[tie] = power * (1 + rng.integers(0, 256, tie.sum()) / 256)
    x[rng.random(shape) < 0.1] = 0
    x[rng.random(shape) < 0.05] *= -0.0
    x[rng.random(shape[:-1]) < 0.05] = 0
    return x.astype(np.float32)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("counts", [(32,), (21,), (32, 1), (3, 32, 17), (1,) * 5])
def test_the_bits_are_those_of_the_array_version(name, counts):
    rng = np.random.default_rng(len(counts))
    x = hard_values(rng, (40, 50, sum(counts)))
    expected = array.encode_pixels(x, counts, FORMATS[name])
    found = native.encode_pixels(x, counts, FORMATS[name])
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all()


def test_neighbours_of_powers_of_two():
    """Each top of a block, where rounding up saturates and the exponent must not change."""
    powers = np.exp2(np.arange(-100, 64)).astype(np.float32)
    x = np.stack([np.nextafter(powers, 0), powers, np.nextafter(powers, np.float32(np.inf))], -1)
    for fmt in FORMATS.values():
        for a, b in zip(native.encode_pixels(x, (3,), fmt), array.encode_pixels(x, (3,), fmt), strict=True):
            assert (a == b).all()


def test_strides_and_single_pixels():
    x = np.asfortranarray(np.random.default_rng(0).normal(size=(3, 4, 40)).astype(np.float32))
    for part in (x, x[::2, 1], x[0, 0]):
        for a, b in zip(
            native.encode_pixels(part, (32, 8), FORMATS["bfp6"]),
            array.encode_pixels(part, (32, 8), FORMATS["bfp6"]),
            strict=True,
        ):
            assert a.shape == b.shape and (a == b).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("version", [array, native])
def test_values_that_are_not_finite_are_named(bad, version):
    x = np.ones((2, 3, 21), np.float32)
    x[1, 2, 20] = bad
    with pytest.raises(FormatError, match=r"^Values of bfp8 must be finite, not .* at \[1, 2, 20\]$"):
        version.encode_pixels(x, (21,), FORMATS["bfp8"])
