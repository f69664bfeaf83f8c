"""bfp8 against an independent implementation of OCP MXINT8: gfloat."""

import gfloat
import numpy as np
from gfloat.formats import format_info_mxint8

from gatecast.numerics import BFP8, encode, round_to_format


def by_gfloat(row):
    return gfloat.quantize_block(format_info_mxint8, row.astype(np.float64), gfloat.compute_scale_amax)


def test_bfp8_is_mxint8_where_that_does_not_use_the_code_minus_128():
    rng = np.random.default_rng(8)
    x = np.ldexp(rng.standard_normal((150, 32)), rng.integers(-40, 40, (150, 1))).astype(np.float32)
    x[::7, 3] = -np.nextafter(np.float32(4), np.float32(0))  # here MXINT8 rounds to -128 and we saturate
    expected = np.array([by_gfloat(row) for row in x])
    scale = np.exp2(np.floor(np.log2(np.abs(x).max(axis=1, keepdims=True))))
    symmetric = expected > -2 * scale
    assert (~symmetric).any()
    assert (round_to_format(x, BFP8)[symmetric] == expected[symmetric]).all()
    assert (round_to_format(x, BFP8)[~symmetric] == (-127 / 64 * scale + 0 * x)[~symmetric]).all()
    assert (encode(x, BFP8)[0] != -128).all()
