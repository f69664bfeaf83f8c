"""Sums of blocks: docs/spec/numerics.md §2. The array version equals plain loops over the definition."""

import numpy as np
import pytest

from gatecast.errors import FormatError
from gatecast.numerics import (
    FORMATS,
    Block,
    Window,
    accumulate,
    convolve,
    decode_blocks,
    dot,
    encode,
    encode_block,
)


def blocks(rng, *shape, fmt, spread=12):
    """Mantissas and exponents of random canonical blocks, some of them zero."""
    x = np.ldexp(rng.standard_normal((*shape, 32)), rng.integers(-spread, spread + 1, (*shape, 1)))
    x[rng.random(shape) < 0.1] = 0
    mantissas, exponents = encode(x.astype(np.float32), fmt)
    return mantissas[..., 0, :], exponents[..., 0]


def block_at(pair, fmt, index):
    mantissas, exponents = pair
    return Block(fmt, int(exponents[index]) - 127, tuple(mantissas[index].tolist()))


def convolve_by_loops(a, w, formats, window, first_blocks):
    """Every output by the scalar definition, positions outside the map skipped."""
    (height, width, stored), (outputs, rows, columns, pieces) = a[1].shape, w[1].shape
    size = window.output_size((height, width), (rows, columns))
    result = np.zeros((*size, outputs), np.float32)
    for oy, ox, o in np.ndindex(result.shape):
        first = first_blocks[o * len(first_blocks) // outputs]
        total = np.float32(0)
        for ky, kx, piece in np.ndindex(rows, columns, pieces):
            y = oy * window.stride[0] + ky * window.dilation[0] - window.pads[0]
            x = ox * window.stride[1] + kx * window.dilation[1] - window.pads[1]
            if 0 <= y < height and 0 <= x < width and first + piece < stored:
                activation = block_at(a, formats[1], (y, x, first + piece))
                total = accumulate(total, activation, block_at(w, formats[0], (o, ky, kx, piece)))
        result[oy, ox, o] = total
    return result


CASES = {
    "pointwise": ((3, 4, 3), (5, 1, 1, 3), Window(), (0,)),
    "3x3": ((4, 5, 2), (3, 3, 3, 2), Window(pads=(1, 1, 1, 1)), (0,)),
    "stride and asymmetric pads": ((6, 5, 1), (4, 3, 2, 1), Window(stride=(2, 1), pads=(0, 1, 2, 0)), (0,)),
    "dilated": ((6, 6, 1), (2, 3, 3, 1), Window(dilation=(2, 1), pads=(2, 1, 2, 1)), (0,)),
    "grouped": ((3, 3, 4), (4, 2, 2, 2), Window(), (0, 2)),
    "straddling groups": ((2, 2, 3), (6, 1, 1, 2), Window(), (0, 1, 2)),
}


@pytest.mark.parametrize("formats", [("bfp8", "bfp8"), ("bfp5", "bfp6"), ("bfp4", "bfp8")])
@pytest.mark.parametrize("name", CASES)
def test_the_array_version_gives_the_bits_of_the_definition(name, formats):
    shape, kernel, window, first_blocks = CASES[name]
    weight_format, activation_format = (FORMATS[f] for f in formats)
    rng = np.random.default_rng(len(name))
    a, w = blocks(rng, *shape, fmt=activation_format), blocks(rng, *kernel, fmt=weight_format)
    got = convolve(
        decode_blocks(*a, activation_format), decode_blocks(*w, weight_format), window, first_blocks
    )
    expected = convolve_by_loops(a, w, (weight_format, activation_format), window, first_blocks)
    assert got.tobytes() == expected.tobytes()


def test_the_order_of_blocks_matters_so_it_is_fixed():
    """2**24 + 1 - 2**24 is 0 or 1 in float32: the page says which."""
    one = encode_block([1.0] + [0.0] * 31, FORMATS["bfp8"])
    big = encode_block([2.0**24] + [0.0] * 31, FORMATS["bfp8"])
    minus = encode_block([-(2.0**24)] + [0.0] * 31, FORMATS["bfp8"])
    assert dot([big, one, minus], [one, one, one]) == 0
    assert dot([big, minus, one], [one, one, one]) == 1


def test_the_order_is_kept_inside_chunks_of_many_rows():
    rng = np.random.default_rng(1)
    fmt = FORMATS["bfp8"]
    a, w = blocks(rng, 90, 50, 1, fmt=fmt), blocks(rng, 40, 3, 3, 1, fmt=fmt)
    x, kernel = decode_blocks(*a, fmt), decode_blocks(*w, fmt)
    window = Window(pads=(1, 1, 1, 1))
    whole = convolve(x, kernel, window)
    for row in (0, 33, 89):
        part = x[max(0, row - 1) : row + 2]
        pads = (1 if row == 0 else 0, 1, 1 if row == 89 else 0, 1)
        assert convolve(part, kernel, Window(pads=pads)).tobytes() == whole[row : row + 1].tobytes()


def test_extremes_of_the_exponents_stay_normal():
    fmt = FORMATS["bfp8"]
    smallest = Block(fmt, -48, (1, *[0] * 31))
    assert accumulate(np.float32(0), smallest, smallest) == np.float32(2.0**-108)
    largest = Block(fmt, 48, (127,) * 32)
    with np.errstate(all="raise"):
        assert np.isfinite(dot([largest] * 64, [largest] * 64))


def test_a_sum_of_too_many_blocks_is_refused():
    x, w = np.zeros((129, 128, 1, 32), np.float32), np.zeros((1, 129, 128, 1, 32), np.float32)
    with pytest.raises(FormatError, match="A sum must have at most 16384 blocks, not 16512"):
        convolve(x, w)


def test_an_empty_sum_is_plus_zero():
    x = np.zeros((1, 1, 1, 32), np.float32)
    w = -np.ones((2, 1, 1, 1, 32), np.float32)
    assert not np.signbit(convolve(x, w)).any()
