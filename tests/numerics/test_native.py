"""Equality 1: the C++ extension gives the bits of the array version, and so of the scalar definition."""

import numpy as np
import pytest

from gatecast.errors import RequestError
from gatecast.numerics import FORMATS, array, operators

native = pytest.importorskip("gatecast.numerics.native", reason="needs the extension gatecast._native")


def hard_values(rng, shape):
    """Sizes from far below the smallest exponent to far above the largest; ties, tops, zeros ."""
    x = rng.normal(size=shape) * np.exp2(rng.integers(-90, 61, (*shape[:-1], 1)))
    tie = rng.random(shape) < 0.3
    power = np.exp2(np.floor(np.log2(np.abs(x[tie]) + 2.0**-100)))
    x[tie] = power * (1 + rng.integers(0, 256, tie.sum()) / 256)
    x[rng.random(shape) < 0.1] = 0
    x[rng.random(shape) < 0.05] *= -0.0
    x[rng.random(shape[:-1]) < 0.05] = 0
    return x.astype(np.float32)


def planes(shape, counts, fmt, pitch=1):
    """Planes full of ones. The blocks of a pixel lie side by side, pixels `pitch` times as far apart."""
    rows, columns, blocks = *shape[:2], len(counts)
    codes = np.full((rows, columns, blocks * pitch, fmt.block_bytes), 255, np.uint8)[:, :, :blocks]
    return codes, np.full((rows, columns, blocks * pitch), 255, np.uint8)[..., :blocks]


def both(x, counts, fmt, pitch=1):
    """Planes and answers of the array version and of the extension."""
    made = []
    for version in (array, native):
        codes, exponents = planes(x.shape, counts, fmt, pitch)
        made.append((version.encode_map(x, counts, fmt, codes, exponents), codes, exponents))
    return made


def assert_same(x, counts, fmt, pitch=1):
    (good, *expected), (found_good, *found) = both(x, counts, fmt, pitch)
    assert good and found_good
    for a, b in zip(expected, found, strict=True):
        assert (a == b).all()
        if pitch > 1:
            assert (a.base == b.base).all()


class TestEncode:
    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize("counts", [(32,), (21,), (32, 1), (3, 32, 17), (1,) * 5])
    def test_the_bits_are_those_of_the_array_version(self, name, counts):
        rng = np.random.default_rng(len(counts))
        x = hard_values(rng, (40, 50, sum(counts)))
        assert_same(x, counts, FORMATS[name])

    @pytest.mark.parametrize("name", FORMATS)
    def test_neighbours_of_powers_of_two(self, name):
        """Each top of a block, where rounding up saturates and the exponent must not change."""
        powers = np.exp2(np.arange(-100, 64)).astype(np.float32)
        x = np.stack([np.nextafter(powers, 0), powers, np.nextafter(powers, np.float32(np.inf))], -1)
        assert_same(x[None], (3,), FORMATS[name])

    @pytest.mark.parametrize("name", ["bfp8", "bfp5"])
    def test_what_lies_between_the_blocks_stays(self, name):
        x = np.random.default_rng(1).normal(size=(3, 4, 40)).astype(np.float32)
        assert_same(x, (32, 8), FORMATS[name], pitch=3)

    def test_the_source_may_have_any_strides(self):
        x = np.asfortranarray(np.random.default_rng(0).normal(size=(3, 4, 40)).astype(np.float32))
        for part in (x, x[::2, 1:2], x[:1, :1], x[..., ::-1]):
            assert_same(part, (32, 8), FORMATS["bfp6"])

    @pytest.mark.parametrize(
        "bad", [np.nan, np.inf, -np.inf, np.nextafter(np.float32(2**64), np.float32(1e38))]
    )
    @pytest.mark.parametrize("channel", [0, 20, 39])
    def test_values_that_no_program_takes_are_refused(self, bad, channel):
        x = np.ones((2, 3, 40), np.float32)
        x[1, 2, channel] = bad
        assert [good for good, *_ in both(x, (32, 8), FORMATS["bfp8"])] == [False, False]

    def test_the_largest_value_is_taken(self):
        assert_same(np.full((1, 1, 2), -(2.0**64), np.float32), (2,), FORMATS["bfp8"])

    def test_planes_of_another_shape_are_refused(self):
        codes, exponents = planes((2, 3), (32,), FORMATS["bfp8"])
        for wrong in (codes[:1], codes[:, :2], codes[..., :16], codes[..., ::-1]):
            with pytest.raises(ValueError):
                native.encode_map(np.ones((2, 3, 32), np.float32), (32,), FORMATS["bfp8"], wrong, exponents)
        with pytest.raises(ValueError, match="add up"):
            native.encode_map(np.ones((2, 3, 31), np.float32), (32,), FORMATS["bfp8"], codes, exponents)


class TestInputs:
    def views(self):
        x = hard_values(np.random.default_rng(2), (2, 3, 5, 7))
        yield from (
            (x, None),
            (x, (0, 2, 3, 1)),
            (x, (3, 1, 0, 2)),
            (x[:, :1], (0, 2, 3, 1)),
            (x[::-1, ::2], None),
        )
        yield from (
            (x[0, 0, 0, 0], None),
            (x[:0], (0, 2, 3, 1)),
            (x[..., 3], (2, 0, 1)),
            (np.asfortranarray(x), None),
        )
        yield np.broadcast_to(x[:, :1], x.shape), (0, 2, 3, 1)

    def test_the_bits_are_those_of_the_array_version(self):
        for x, axes in self.views():
            expected, found = (version.bounded(x, "x", axes) for version in (operators, native))
            assert found.shape == expected.shape and found.flags.c_contiguous
            assert found.tobytes() == expected.tobytes()

    def test_small_values_become_positive_zeros(self):
        edge = np.float32(2.0**-80)
        x = np.array([edge, -edge, np.nextafter(edge, 0), -np.nextafter(edge, 0), -0.0, 1e-45], np.float32)
        assert native.bounded(x, "x").view(np.uint32).tolist() == [
            int(v) for v in np.array([edge, -edge, 0, 0, 0, 0], np.float32).view(np.uint32)
        ]

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.float32(2.0**65)])
    def test_the_index_of_a_bad_value_is_that_before_it_is_transposed(self, bad):
        x = np.ones((1, 3, 4, 5), np.float32)
        x[0, 2, 1, 4] = bad
        for version in (operators, native):
            with pytest.raises(RequestError, match=r"^Values of x must be finite .* at \[0, 2, 1, 4\]$"):
                version.bounded(x, "x", (0, 2, 3, 1))
