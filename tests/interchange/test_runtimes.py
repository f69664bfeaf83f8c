"""Stock ONNX Runtime and OpenVINO run what is exported and agree with the evaluator.

Layer by layer, each fed the contract's own values. A sum of n products, each exact in float32, is within
``gamma(n) * sum |a * w|`` of the true one in any order, gamma(n) = n*u / (1 - n*u) with u = 2**-24, and the
contract's block-ordered sum is too; so two of them differ by twice that at most. Encoding differs by one
mantissa, and only in blocks whose sums differ. Layers that round nothing, or once, are equal.
"""

from dataclasses import replace

import numpy as np
import pytest
from tests.interchange.runtimes import RUNTIMES, evaluated, feed_of
from tests.random_graphs import random_graph, random_input

from gatecast import graph as op
from gatecast.graph import Graph, Input, evaluate, evaluate_values
from gatecast.numerics import encode, round_to_format
from gatecast.quantization import quantize

UNIT = 2.0**-24
EXACT = (op.Encode, op.MaxPool, op.Elementwise, op.Concat, op.Slice, op.Resize, op.Pad, op.Flatten)


def gamma(count):
    return count * UNIT / (1 - count * UNIT)


def single(graph, layer, values):
    """A network of one layer, its Encode before it, and those values that it reads."""
    blocks = isinstance(getattr(layer, "weights", None), op.BlockWeights)
    before = (graph.by_name[layer.inputs[0]],) if blocks else ()
    reads = before[0].inputs if blocks else layer.inputs
    names = tuple(dict.fromkeys(reads))
    part = Graph("part", tuple(Input(n, graph.shapes[n]) for n in names), (*before, layer), (layer.name,))
    return part, {name: values[name] for name in names}


def sum_bound(layer, x):
    """Most that two float32 sums of a product layer can differ, for each of its values."""
    bias = 0 if layer.bias is None else np.abs(layer.bias)
    if isinstance(layer.weights, op.BlockWeights):
        weights = float_weights(layer)
    else:
        weights = layer.weights
    absolute = replace(layer, weights=np.abs(weights), bias=None)
    part = Graph("absolute", (Input("x", x.shape),), (replace(absolute, inputs=("x",)),), (layer.name,))
    magnitude = evaluate(part, {"x": np.abs(x)})[layer.name] * (1 + 1e-4) + bias
    return 2 * gamma(weights[0].size + 1) * magnitude


def float_weights(layer):
    """Weights in blocks as float32 (O, kh, kw, I / groups)."""
    blocks = layer.weights.decode()
    outputs, *kernel, channels = layer.weights.shape
    groups = getattr(layer, "groups", 1)
    flat = blocks.reshape(outputs, *kernel, -1)
    lanes = [output // (outputs // groups) * channels % 32 for output in range(outputs)]
    return np.stack([flat[o, ..., lane : lane + channels] for o, lane in enumerate(lanes)])


def bound(layer, inputs, result):
    """Most that a runtime's float32 result may differ from the evaluator's."""
    magnitude = np.abs(result)
    match layer:
        case op.Convolution() | op.MatMul():
            return sum_bound(layer, inputs[0])
        case op.Affine():  # a runtime may fuse the two operations and skip one rounding
            return 2 * UNIT * (np.abs(inputs[0] * layer.scale) + magnitude)
        case op.Activation(kind="hard_sigmoid" | "hard_swish"):
            return 4 * UNIT * (1 + np.abs(inputs[0])) * (1 + magnitude)
        case op.Activation(kind="relu" | "clip" | "leaky_relu"):
            return 0 * magnitude
        case op.AveragePool() | op.GlobalAveragePool():
            count = inputs[0].shape[0] * inputs[0].shape[1]
            return 2 * gamma(count + 2) * np.abs(inputs[0]).max(axis=(0, 1)) * np.ones_like(magnitude)
        case _ if isinstance(layer, EXACT):
            return 0 * magnitude
        case _:  # sigmoid, softmax: float32 on the host, not in the contract
            return 1e-5 + 1e-5 * magnitude


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("seed", [1, 4, 5, 8, 9, 14])
def test_each_layer_agrees_within_its_derived_bound(seed, runtime):
    graph = quantize(random_graph(seed, steps=5), ("bfp8", "bfp5/bfp6")[seed % 2])
    values = evaluate_values(graph, random_input(graph, seed))
    for layer in graph.layers:
        part, inputs = single(graph, layer, values)
        feed = feed_of(part, inputs)
        found = RUNTIMES[runtime](part, feed)[layer.name]
        expected = evaluated(part, feed)[layer.name]
        allowed = bound(layer, [values[name] for name in layer.inputs], expected[0])
        assert (np.abs(found - expected)[0] <= allowed).all(), layer


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_encoded_sum_differs_by_one_mantissa_where_the_sums_differ(runtime):
    rng = np.random.default_rng(11)
    spread = np.exp2(rng.integers(-6, 7, 96)).astype(np.float32)  # so that sums round
    weights = rng.standard_normal((40, 3, 3, 96)).astype(np.float32) * spread
    layers = (
        op.Convolution(name="conv", inputs=("x",), weights=weights, pads=(1, 1, 1, 1)),
        op.Activation(name="relu", inputs=("conv",), kind="relu"),
        op.Convolution(name="last", inputs=("relu",), weights=weights[:, :1, :1, :40]),
    )
    graph = quantize(Graph("two", (Input("x", (9, 9, 96)),), layers, ("last",)), "bfp5", first="bfp5")
    encoded = graph.by_name["last"].inputs[0]
    position = [layer.name for layer in graph.layers].index(encoded)
    before = graph.layers[position].inputs[0]
    plain = op.Interface(inputs=(), outputs=())
    part = replace(graph, layers=graph.layers[: position + 1], outputs=(before, encoded), interface=plain)
    x = {"x": (rng.standard_normal((9, 9, 96)) / spread).astype(np.float32)}
    feed = feed_of(part, x)
    found, expected = RUNTIMES[runtime](part, feed), evaluated(part, feed)
    fmt = graph.by_name[encoded].format
    assert (found[encoded] == round_to_format(found[before], fmt)).all()
    _, exponents = encode(np.maximum(np.abs(found[before]), np.abs(expected[before])), fmt)
    step = np.exp2(exponents.astype(int) - 127.0 - (fmt.bits - 2)).repeat(32, axis=-1)[..., :40]
    sums_differ = found[before] != expected[before]
    block_differs = np.logical_or.reduceat(sums_differ, [0, 32], axis=-1).repeat([32, 8], axis=-1)
    off = np.abs(found[encoded] - expected[encoded])
    assert (off <= np.where(block_differs, step, 0)).all()


def decibels(found, expected):
    noise = ((found.astype(np.float64) - expected) ** 2).sum()
    signal = (expected.astype(np.float64) ** 2).sum()
    return np.inf if noise == 0 else 10 * np.log10(signal / noise)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("seed", [3, 10, 17, 20, 33])
def test_whole_networks_agree(seed, runtime):
    """A mantissa that a sum flips moves the scores by far less than quantising does (20 to 40 dB)."""
    graph = quantize(random_graph(seed), "bfp8")
    feed = feed_of(graph, random_input(graph, seed))
    found, expected = RUNTIMES[runtime](graph, feed), evaluated(graph, feed)
    for name, values in expected.items():
        assert decibels(found[name], values) > 50


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batch_is_as_many_single_images(runtime):
    graph = quantize(random_graph(0), "bfp8")
    port = graph.interface.inputs[0]
    graph = replace(
        graph,
        interface=replace(
            graph.interface,
            inputs=(replace(port, batch=None),),
            outputs=tuple(replace(port, batch=None) for port in graph.interface.outputs),
        ),
    )
    feeds = [feed_of(graph, random_input(graph, seed)) for seed in (1, 2, 3)]
    batch = {port.name: np.concatenate([feed[port.name] for feed in feeds])}
    found = RUNTIMES[runtime](graph, batch)
    for row, feed in enumerate(feeds):
        for name, values in evaluated(graph, feed).items():
            assert decibels(found[name][row], values[0]) > 50
