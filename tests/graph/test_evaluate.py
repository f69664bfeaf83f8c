"""Each layer against plain loops; exact wherever the arithmetic contract defines the result."""

import numpy as np
import pytest

from gatecast.errors import GraphError, RequestError
from gatecast.graph import (
    Activation,
    Affine,
    AveragePool,
    BatchNorm,
    BlockWeights,
    Concat,
    Convolution,
    Elementwise,
    Encode,
    Flatten,
    GlobalAveragePool,
    Graph,
    Input,
    L2Norm,
    MatMul,
    MaxPool,
    Pad,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
    evaluate,
    evaluate_values,
)
from gatecast.numerics import BFP6, BFP8, accumulate, encode, encode_block, round_to_format

RNG = np.random.default_rng(11)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def run(layer, *arrays):
    """What `layer` makes of `arrays`, through a graph of its own."""
    names = tuple(f"x{i}" for i in range(len(arrays)))
    inputs = tuple(Input(name, array.shape) for name, array in zip(names, arrays, strict=True))
    net = Graph("one", inputs, (layer(name="y", inputs=names),), ("y",))
    return evaluate(net, dict(zip(names, arrays, strict=True)))["y"]


def make(layer, /, **fields):
    return lambda **named: layer(**named, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stride": (2, 1), "pads": (1, 0, 2, 1)},
        {"dilation": (2, 1), "pads": (2, 1, 2, 1)},
        {"groups": 2},
        {"groups": 4},
    ],
)
def test_float_convolution_is_the_plain_sum(fields):
    groups = fields.get("groups", 1)
    x, w, b = floats(6, 7, 4), floats(8, 3, 2, 4 // groups), floats(8)
    layer = make(Convolution, weights=w, bias=b, **fields)
    got = run(layer, x)
    window = layer(name="y", inputs=()).window
    expected = np.zeros(got.shape)
    for oy, ox, o in np.ndindex(got.shape):
        group = o // (8 // groups)
        for ky, kx in np.ndindex(3, 2):
            y = oy * window.stride[0] + ky * window.dilation[0] - window.pads[0]
            col = ox * window.stride[1] + kx * window.dilation[1] - window.pads[1]
            if 0 <= y < 6 and 0 <= col < 7:
                channels = x[y, col, group * 4 // groups : (group + 1) * 4 // groups].astype(np.float64)
                expected[oy, ox, o] += channels @ w[o, ky, kx].astype(np.float64)
    # at most 24 products below 16 in magnitude, each rounded at most 25 times at 2**-24
    np.testing.assert_allclose(got, expected + b, rtol=0, atol=24 * 16 * 25 * 2.0**-24)


def block_weights(w, fmt):
    mantissas, exponents = encode(w, fmt)
    return BlockWeights(fmt, mantissas, exponents, w.shape[-1])


def test_convolution_in_blocks_sums_in_the_order_of_the_contract():
    x, w, b = floats(4, 5, 40) * 100, floats(3, 3, 3, 40), floats(3)
    layers = (
        Encode(name="e", inputs=("x",), format=BFP8),
        Convolution(name="y", inputs=("e",), weights=block_weights(w, BFP6), bias=b, pads=(1, 1, 1, 1)),
    )
    got = evaluate(Graph("net", (Input("x", x.shape),), layers, ("y",)), {"x": x})["y"]

    def blocks(values, fmt):
        padded = np.concatenate([values, np.zeros(24, np.float32)])
        return [encode_block(padded[i : i + 32].tolist(), fmt) for i in (0, 32)]

    expected = np.zeros_like(got)
    for oy, ox, o in np.ndindex(got.shape):
        total = np.float32(0)
        for ky, kx in np.ndindex(3, 3):
            y, col = oy + ky - 1, ox + kx - 1
            if 0 <= y < 4 and 0 <= col < 5:
                for a, k in zip(blocks(x[y, col], BFP8), blocks(w[o, ky, kx], BFP6), strict=True):
                    total = accumulate(total, a, k)
        expected[oy, ox, o] = np.float32(total + b[o])
    assert got.tobytes() == expected.tobytes()


def test_a_matrix_product_in_blocks_reads_a_map_as_a_kernel_of_its_size():
    x, w = floats(2, 3, 33), floats(5, 2, 3, 33)
    encode_x = Encode(name="e", inputs=("x",), format=BFP8)
    product = MatMul(name="y", inputs=("e",), weights=block_weights(w, BFP8))
    whole = Convolution(name="y", inputs=("e",), weights=block_weights(w, BFP8))
    results = [
        evaluate(Graph("net", (Input("x", x.shape),), (encode_x, layer), ("y",)), {"x": x})["y"]
        for layer in (product, whole)
    ]
    assert results[0].shape == (5,) and results[1].shape == (1, 1, 5)
    assert results[0].tobytes() == results[1].tobytes()


def test_a_layer_in_blocks_must_read_an_encoded_value():
    layer = MatMul(name="y", inputs=("x",), weights=block_weights(floats(5, 1, 1, 3), BFP8))
    net = Graph("net", (Input("x", (3,)),), (layer,), ("y",))
    with pytest.raises(GraphError, match="Layer y must read an encoded value, not x"):
        evaluate(net, {"x": floats(3)})


def test_encode_hands_on_the_decoded_value():
    x = floats(3, 3, 50)
    assert run(make(Encode, format=BFP6), x).tobytes() == round_to_format(x, BFP6).tobytes()


def test_batch_norm_and_affine_work_for_each_channel():
    x, gamma, beta, mean = floats(3, 4, 5), floats(5), floats(5), floats(5)
    variance = np.abs(floats(5)) + np.float32(0.5)
    got = run(make(BatchNorm, gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=1e-3), x)
    expected = (x.astype(np.float64) - mean) / np.sqrt(variance.astype(np.float64) + 1e-3) * gamma + beta
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert (run(make(Affine, scale=gamma, shift=beta), x) == x * gamma + beta).all()


@pytest.mark.parametrize(
    "kind", ["relu", "clip", "leaky_relu", "hard_sigmoid", "hard_swish", "sigmoid", "silu"]
)
def test_activations_of_a_zero_are_never_minus_zero(kind):
    limits = {"relu": {}, "clip": {"low": -1.0, "high": 6.0}, "leaky_relu": {"low": 0.1}}
    fields = limits.get(kind, {"low": 1 / 6, "high": 0.5})
    got = run(make(Activation, kind=kind, **fields), np.array([-0.0, 0.0, -1e-40, -3.0, 3.0], np.float32))
    assert not np.signbit(got[got == 0]).any()


def test_sigmoid_and_silu_do_not_overflow():
    x = np.array([-200, -1, 0, 1, 200], np.float32)
    expected = np.array([0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1])
    np.testing.assert_allclose(run(make(Activation, kind="sigmoid"), x), expected, atol=1e-7)
    np.testing.assert_allclose(run(make(Activation, kind="silu"), x), x * expected, atol=1e-6)


def windows(shape, got, kernel, stride, pads):
    for oy, ox in np.ndindex(got.shape[:2]):
        rows = range(oy * stride[0] - pads[0], oy * stride[0] - pads[0] + kernel[0])
        columns = range(ox * stride[1] - pads[1], ox * stride[1] - pads[1] + kernel[1])
        inside = [(y, x) for y in rows for x in columns if 0 <= y < shape[0] and 0 <= x < shape[1]]
        declared = [
            (y, x) for y in rows for x in columns if y < shape[0] + pads[2] and x < shape[1] + pads[3]
        ]
        yield (oy, ox), inside, len(declared)


POOLS = [
    {"kernel": (3, 3), "stride": (2, 2), "pads": (1, 1, 1, 1)},
    {"kernel": (2, 3), "stride": (2, 2), "pads": (0, 0, 0, 0), "ceil": True},
    {"kernel": (3, 2), "stride": (1, 3), "pads": (1, 0, 0, 1)},
    {"kernel": (3, 3), "stride": (2, 2), "pads": (0, 1, 1, 0), "ceil": True},
]


@pytest.mark.parametrize("fields", POOLS)
def test_max_pool_takes_positions_inside_the_map(fields):
    x = floats(6, 7, 3) - 5
    got = run(make(MaxPool, **fields), x)
    for at, inside, _ in windows(x.shape, got, fields["kernel"], fields["stride"], fields["pads"]):
        assert (got[at] == np.max([x[p] for p in inside], axis=0)).all()


@pytest.mark.parametrize("count_pads", [False, True])
@pytest.mark.parametrize("fields", POOLS)
def test_average_pool_adds_in_order_and_multiplies_by_the_rounded_factor(fields, count_pads):
    x = floats(6, 7, 3)
    got = run(make(AveragePool, count_pads=count_pads, **fields), x)
    for at, inside, declared in windows(x.shape, got, fields["kernel"], fields["stride"], fields["pads"]):
        total = np.zeros(3, np.float32)
        for position in inside:
            total += x[position]
        expected = total * np.float32(1 / (declared if count_pads else len(inside)))
        assert (got[at] == expected).all()


def test_global_average_pool_is_an_average_pool_of_the_whole_map():
    x = floats(7, 7, 33)
    assert (
        run(make(GlobalAveragePool), x).tobytes()
        == run(make(AveragePool, kernel=(7, 7), stride=(1, 1)), x).tobytes()
    )


def test_elementwise_goes_from_left_to_right_and_broadcasts_a_pixel():
    a, b, c = (floats(2, 3, 4) for _ in range(3))
    gate = floats(1, 1, 4)
    assert (run(make(Elementwise, kind="add"), a, b, c) == (a + b) + c).all()
    assert (run(make(Elementwise, kind="subtract"), a, b) == a - b).all()
    assert (run(make(Elementwise, kind="multiply"), a, gate) == a * gate).all()
    assert (run(make(Elementwise, kind="maximum"), gate, a) == np.maximum(a, gate)).all()
    assert (run(make(Elementwise, kind="minimum"), a, b) == np.minimum(a, b)).all()


def test_layers_that_move_values():
    x = floats(2, 3, 4)
    assert (run(make(Flatten), x) == x.transpose(2, 0, 1).reshape(-1)).all()
    assert (run(make(Flatten, order="hwc"), x) == x.reshape(-1)).all()
    assert (run(make(Reshape, shape=(6, 4)), x) == x.reshape(6, 4)).all()
    assert (run(make(Transpose, order=(1, 2, 0)), x) == x.transpose(1, 2, 0)).all()
    assert (
        run(make(Slice, starts=(0, 1, 1), stops=(2, 3, 4), steps=(1, 1, 2)), x) == x[0:2, 1:3, 1:4:2]
    ).all()
    assert (run(make(Concat), x, x) == np.concatenate([x, x], -1)).all()
    padded = run(make(Pad, pads=(1, 2, 0, 1), value=7.0), x)
    assert padded.shape == (3, 6, 4) and (padded[1:, 2:5] == x).all() and (padded[0] == 7).all()
    assert (run(make(Resize, size=(4, 9)), x) == x.repeat(2, 0).repeat(3, 1)).all()


def test_bilinear_resize_keeps_corners_and_a_linear_ramp():
    ramp = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 4, 1), np.float32)
    aligned = run(make(Resize, size=(9, 4), mode="bilinear", coordinates="align_corners"), ramp)
    assert (aligned[:, 0, 0] == np.arange(9) / 2).all()
    asymmetric = run(make(Resize, size=(10, 4), mode="bilinear", coordinates="asymmetric"), ramp)
    assert (asymmetric[:, 0, 0] == np.minimum(np.arange(10) / 2, 4)).all()
    half = run(make(Resize, size=(10, 4), mode="bilinear", coordinates="half_pixel"), ramp)
    assert (half[:, 0, 0] == np.clip((np.arange(10) + 0.5) / 2 - 0.5, 0, 4)).all()


def test_softmax_and_l2_norm():
    x = floats(2, 3, 4) * 50
    powers = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    np.testing.assert_allclose(run(make(Softmax), x), powers / powers.sum(-1, keepdims=True), atol=1e-6)
    scale = floats(4)
    norm = np.sqrt((x.astype(np.float64) ** 2).sum(-1, keepdims=True))
    np.testing.assert_allclose(run(make(L2Norm, scale=scale), x), x / norm * scale, rtol=1e-5)


def tiny():
    layers = (Encode(name="e", inputs=("x",), format=BFP8), Activation(name="y", inputs=("e",), kind="relu"))
    return Graph("net", (Input("x", (2, 2, 3)),), layers, ("y",))


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**65])
def test_inputs_of_a_quantised_graph_are_finite_and_bounded(value):
    x = floats(2, 2, 3)
    x[1, 0, 2] = value
    with pytest.raises(
        RequestError, match=r"Values of input x must be finite and at most 2\*\*64, not .* at \[1, 0, 2\]"
    ):
        evaluate(tiny(), {"x": x})


def test_inputs_are_named_and_shaped():
    with pytest.raises(RequestError, match="Inputs of net must be x, not q"):
        evaluate(tiny(), {"q": floats(2, 2, 3)})
    with pytest.raises(RequestError, match=r"Input x of net must have shape \(2, 2, 3\), not \(2, 2\)"):
        evaluate(tiny(), {"x": floats(2, 2)})


def test_every_value_can_be_seen():
    seen = []
    values = evaluate_values(
        tiny(), {"x": floats(2, 2, 3)}, lambda layer, value: seen.append((layer.name, value.shape))
    )
    assert seen == [("e", (2, 2, 3)), ("y", (2, 2, 3))]
    assert set(values) == {"x", "e", "y"}
