"""The definition and the array version, side by side: docs/spec/numerics.md §1."""

import numpy as np
import pytest

from gatecast.errors import FormatError
from gatecast.numerics import (
    BFP8,
    FORMATS,
    Block,
    decode,
    decode_block,
    encode,
    encode_block,
    is_canonical,
    pack,
    pack_block,
    round_to_format,
    unpack,
)

ALL = pytest.mark.parametrize("fmt", FORMATS.values(), ids=str)


def encode_scalar(values, fmt):
    block = encode_block([float(v) for v in values], fmt)
    return block.exponent, block.mantissas


def encode_array(values, fmt):
    mantissas, exponents = encode(np.asarray(values, np.float32), fmt)
    return int(exponents[0]) - 127, tuple(mantissas[0].tolist())


ENCODERS = pytest.mark.parametrize("encode_one", [encode_scalar, encode_array])


def block_of(*values):
    return np.array([*values, *[0.0] * (32 - len(values))], np.float32)


def adversarial(fmt, count=400, seed=0):
    """Blocks of random scales, powers of two and their neighbours, ties, tops, zeros, tiny and huge ones."""
    rng = np.random.default_rng(seed)
    x = np.ldexp(rng.standard_normal((count, 32)), rng.integers(-60, 61, (count, 1))).astype(np.float32)
    power = np.exp2(rng.integers(-55, 55, count)).astype(np.float32)
    ties = rng.integers(-(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1), x.shape) + 0.5
    kind = rng.integers(0, 8, count)
    rows = {
        1: np.clip(x, -power[:, None], power[:, None]),
        2: np.zeros_like(x),
        3: (ties * power[:, None] / 2 ** (fmt.bits - 2)).astype(np.float32),
        4: np.where(rng.random(x.shape) < 0.9, 0, np.nextafter(2 * power, np.float32(0))[:, None]),
        5: np.full_like(x, 1e-42),
        6: np.where(np.arange(32) == 31, np.float32(3.3e38), x),
        7: np.nextafter(power, np.float32(0))[:, None] * np.where(rng.random(x.shape) < 0.5, -1, 1),
    }
    for which, values in rows.items():
        x[kind == which] = values[kind == which]
    return x.astype(np.float32)


@ALL
@ENCODERS
def test_the_exponent_is_that_of_the_largest_magnitude(fmt, encode_one):
    assert encode_one(block_of(1.0), fmt)[0] == 0
    assert encode_one(block_of(0.1, -1.99), fmt)[0] == 0
    assert encode_one(block_of(np.nextafter(np.float32(2), np.float32(0))), fmt)[0] == 0
    assert encode_one(block_of(-2.0), fmt)[0] == 1


@ALL
@ENCODERS
def test_ties_go_to_the_even_mantissa(fmt, encode_one):
    step = 2.0 ** -(fmt.bits - 2)
    _, mantissas = encode_one(
        block_of(1.0, 0.5 * step, 1.5 * step, 2.5 * step, -0.5 * step, -1.5 * step), fmt
    )
    assert mantissas[1:6] == (0, 2, 2, 0, -2)


@ALL
@ENCODERS
def test_rounding_up_at_the_top_saturates_and_keeps_the_exponent(fmt, encode_one):
    top = np.nextafter(np.float32(2), np.float32(0))
    exponent, mantissas = encode_one(block_of(top, -top), fmt)
    assert (exponent, mantissas[:2]) == (0, (fmt.mantissa_max, -fmt.mantissa_max))


@ALL
@ENCODERS
def test_an_all_zero_block_has_the_smallest_exponent(fmt, encode_one):
    assert encode_one(block_of(0.0, -0.0), fmt) == (-48, (0,) * 32)


@ALL
@ENCODERS
def test_the_exponent_is_clamped_at_both_ends(fmt, encode_one):
    assert encode_one(block_of(2.0**-49), fmt) == (-48, (2 ** (fmt.bits - 3), *[0] * 31))
    assert encode_one(block_of(1e-45, -1e-39), fmt) == (-48, (0,) * 32)
    assert encode_one(block_of(2.0**100, -(2.0**60)), fmt)[1][:2] == (fmt.mantissa_max, -fmt.mantissa_max)
    assert encode_one(block_of(3.4e38), fmt)[0] == 48


@ALL
def test_the_array_version_gives_the_bits_of_the_definition(fmt):
    for row in adversarial(fmt):
        assert encode_array(row, fmt) == encode_scalar(row, fmt)


@ALL
def test_every_code_decodes_exactly_and_encodes_back_beside_a_full_mantissa(fmt):
    top = fmt.mantissa_max
    for exponent in (-48, -1, 0, 7, 48):
        for code in range(-top, top + 1):
            block = Block(fmt, exponent, (top, code, *[0] * 30))
            values = decode_block(block)
            assert values[1] == code * 2.0 ** (exponent - (fmt.bits - 2))
            assert encode_block(values, fmt) == block
            mantissas, exponents = encode(np.array(values, np.float32), fmt)
            assert decode(mantissas, exponents, fmt).tolist() == list(values)


@ALL
def test_a_mantissa_of_zero_decodes_to_plus_zero(fmt):
    decoded = round_to_format(block_of(1.0, -1e-9), fmt)
    assert decoded[1] == 0 and not np.signbit(decoded).any()
    assert np.copysign(1, decode_block(encode_block(block_of(1.0, -1e-9).tolist(), fmt))[1]) == 1


@ALL
def test_every_block_that_encode_makes_is_canonical(fmt):
    mantissas, exponents = encode(adversarial(fmt, 2000, seed=3), fmt)
    assert is_canonical(mantissas, exponents, fmt).all()


@ALL
def test_blocks_that_encode_never_makes_are_not_canonical(fmt):
    half = 2 ** (fmt.bits - 2)
    cases = [
        (half - 1, 127),  # the exponent could be smaller
        (-(2 ** (fmt.bits - 1)), 127),  # asymmetric
        (half, 127 + 49),
        (half, 127 - 49),
        (0, 127),  # zero with another exponent
    ]
    for mantissa, exponent in cases:
        mantissas = np.array([[mantissa, *[0] * 31]], np.int8)
        assert not is_canonical(mantissas, np.array([exponent], np.uint8), fmt).any()
    smallest = np.array([[half - 1, *[0] * 31]], np.int8)
    assert is_canonical(smallest, np.array([127 - 48], np.uint8), fmt).all()


@ALL
def test_the_last_block_is_padded_with_zeros_and_cut_again(fmt):
    x = adversarial(fmt, 6, seed=5).reshape(2, 3, 32)[..., :21]
    mantissas, exponents = encode(x, fmt)
    assert mantissas.shape == (2, 3, 1, 32) and exponents.shape == (2, 3, 1)
    assert (mantissas[..., 21:] == 0).all()
    assert decode(mantissas, exponents, fmt, 21).shape == x.shape


@ALL
def test_packing_is_little_endian_fields_and_comes_back(fmt):
    mantissas, _ = encode(adversarial(fmt, 64, seed=7), fmt)
    codes = pack(mantissas, fmt)
    assert codes.shape == (64, 1, fmt.block_bytes)
    assert (unpack(codes, fmt) == mantissas).all()
    for row, code in zip(mantissas[:, 0], codes[:, 0], strict=True):
        assert pack_block(Block(fmt, 0, tuple(row.tolist()))) == code.tobytes()


def test_bfp5_packs_as_the_page_says():
    block = Block(FORMATS["bfp5"], 0, (1, -1, *[0] * 30))
    assert pack_block(block)[:2] == bytes([0b11100001, 0b11])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_index(value):
    x = np.zeros((2, 40), np.float32)
    x[1, 35] = value
    with pytest.raises(FormatError, match=r"Values of bfp8 must be finite, not -?(nan|inf) at \[1, 35\]"):
        encode(x, BFP8)
    with pytest.raises(FormatError, match="Values of bfp8 must be finite"):
        encode_block([value, *[0.0] * 31], BFP8)


def test_a_block_has_32_values():
    with pytest.raises(FormatError, match="Block of bfp8 must have 32 values, not 3"):
        encode_block([1.0, 2.0, 3.0], BFP8)
