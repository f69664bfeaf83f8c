"""Activations as docs/spec/numerics.md §3 writes them."""

import numpy as np

from gatecast.numerics import (
    NO_LIMIT,
    average_factor,
    clip,
    flush_small,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    relu,
)

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.standard_normal(500) * 4, [0.0, -0.0, 3.0, -3.0, 2.0**64, -(2.0**64)]]).astype(
    np.float32
)


def fl32(value):
    return np.float32(value)


def each(function):
    return np.array([function(x) for x in X], np.float32)


def same(got, expected):
    return got.dtype == np.float32 and (got + fl32(0)).tobytes() == (expected + fl32(0)).tobytes()


def test_relu():
    assert same(relu(X), each(lambda x: x if x > 0 else fl32(0)))


def test_clip_with_and_without_limits():
    assert same(clip(X, -1.5, 2.5), each(lambda x: fl32(-1.5) if x < -1.5 else fl32(2.5) if x > 2.5 else x))
    assert same(clip(X, -NO_LIMIT, NO_LIMIT), X)


def test_leaky_relu_rounds_the_product_once():
    slope = fl32(0.3)
    assert same(leaky_relu(X, 0.3), each(lambda x: max(x, fl32(slope * x))))


def test_hard_sigmoid_and_hard_swish_round_each_step():
    alpha, beta = fl32(1 / 6), fl32(0.5)
    gate = each(lambda x: min(max(fl32(fl32(alpha * x) + beta), fl32(0)), fl32(1)))
    assert same(hard_sigmoid(X, 1 / 6, 0.5), gate)
    assert same(hard_swish(X), np.array([fl32(x * g) for x, g in zip(X, gate, strict=True)]))


def test_small_magnitudes_become_plus_zero():
    x = np.array([2.0**-80, -(2.0**-80), 2.0**-81, -(2.0**-81), 1e-45, 1.0], np.float32)
    assert flush_small(x).tolist() == [2.0**-80, -(2.0**-80), 0, 0, 0, 1.0]
    assert not np.signbit(flush_small(x)[3])


def test_the_factor_of_an_average_is_rounded_once():
    assert average_factor(49) == np.float32(1 / 49) and average_factor(49).dtype == np.float32
