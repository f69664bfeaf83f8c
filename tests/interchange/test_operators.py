"""Operators and idioms by opset: the Graph computes what ONNX Runtime does, in the layers expected.

Sums of a few dozen float32 terms of size 1 in another order: 1e-5 is generous.
"""

import numpy as np
import onnx
import pytest
from tests.interchange.models import ints, model, normal, single
from tests.interchange.runtimes import difference, evaluated, onnx_runtime

from gatecast import graph as op
from gatecast.interchange import from_onnx, to_onnx

W = {"w": normal(4, 3, 3, 3), "b": normal(4)}
BN = {"g": normal(4) + 1, "s": normal(4), "m": normal(4), "v": np.abs(normal(4)) + 1}
NORM = ("BatchNormalization", "c g s m v", "y", {"epsilon": 0.01})
CONV = ("Conv", "x w b", "c", {})
MAP, SMALL = (3, 8, 7), (4, 4, 6)

CASES = {
    # opset, nodes, shape of x, constants, layers expected
    "conv of opset 7 with auto_pad": (
        7,
        [("Conv", "x w", "y", {"auto_pad": "SAME_UPPER", "strides": [2, 2]})],
        MAP,
        W,
        ["Convolution"],
    ),
    "conv with auto_pad lower": (
        11,
        [("Conv", "x w b", "y", {"auto_pad": "SAME_LOWER", "strides": [2, 2]})],
        MAP,
        W,
        ["Convolution"],
    ),
    "conv then add of a bias": (
        8,
        [("Conv", "x w", "c", {}), ("Add", "c b1", "y", {})],
        MAP,
        {**W, "b1": normal(4, 1, 1)},
        ["Convolution"],
    ),
    "pad of opset 10 before conv": (
        10,
        [("Pad", "x", "p", {"pads": [0, 0, 1, 2, 0, 0, 0, 1]}), ("Conv", "p w", "y", {})],
        MAP,
        W,
        ["Convolution"],
    ),
    "pad of opset 18 with axes before conv": (
        18,
        [("Pad", "x pads - axes", "p", {}), ("Conv", "p w", "y", {"pads": [1, 0, 0, 1]})],
        MAP,
        {**W, "pads": ints(1, 2, 0, 1), "axes": ints(2, -1)},
        ["Convolution"],
    ),
    "negative pad cuts": (
        13,
        [("Pad", "x pads", "y", {})],
        MAP,
        {"pads": ints(0, 0, -1, 2, 0, 0, 1, -2)},
        ["Slice", "Pad"],
    ),
    "pad of minus infinity before max pool": (
        13,
        [("Pad", "x pads lowest", "p", {}), ("MaxPool", "p", "y", {"kernel_shape": [3, 3]})],
        MAP,
        {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1), "lowest": single(-np.inf)},
        ["MaxPool"],
    ),
    "pad of zeros before max pool stays where values may be negative": (
        13,
        [("Pad", "x pads", "p", {}), ("MaxPool", "p", "y", {"kernel_shape": [3, 3]})],
        MAP,
        {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)},
        ["Pad", "MaxPool"],
    ),
    "pad of zeros before max pool goes after relu": (
        13,
        [("Relu", "x", "r", {}), ("Pad", "r pads", "p", {}), ("MaxPool", "p", "y", {"kernel_shape": [3, 3]})],
        MAP,
        {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)},
        ["Activation", "MaxPool"],
    ),
    "pad before average pool counts": (
        13,
        [("Pad", "x pads", "p", {}), ("AveragePool", "p", "y", {"kernel_shape": [3, 3], "strides": [2, 2]})],
        MAP,
        {"pads": ints(0, 0, 1, 1, 0, 0, 0, 1)},
        ["AveragePool"],
    ),
    "pad before average pool that counts no padding of its own": (
        13,
        [
            ("Pad", "x pads", "p", {}),
            ("AveragePool", "p", "y", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ],
        MAP,
        {"pads": ints(0, 0, 1, 0, 0, 0, 0, 0)},
        ["Pad", "AveragePool"],
    ),
    "batch norm of opset 7": (7, [CONV, NORM], MAP, W | BN, ["Convolution", "BatchNorm"]),
    "batch norm of opset 14": (14, [CONV, NORM], MAP, W | BN, ["Convolution", "BatchNorm"]),
    "batch norm as mul and add": (
        9,
        [CONV, ("Mul", "c k", "d", {}), ("Add", "h d", "y", {})],
        MAP,
        {**W, "k": normal(1, 4, 1, 1), "h": normal(4, 1, 1)},
        ["Convolution", "Affine"],
    ),
    "mul, add and another add": (
        9,
        [("Mul", "x k", "m", {}), ("Add", "m b", "a", {}), ("Add", "a k", "y", {})],
        MAP,
        {"k": normal(3, 1, 1), "b": normal(3, 1, 1)},
        ["Affine", "Affine"],
    ),
    "sub and div by constants": (
        9,
        [("Sub", "x mean", "d", {}), ("Div", "d std", "y", {})],
        MAP,
        {"mean": normal(3, 1, 1), "std": np.abs(normal(3, 1, 1)) + 1},
        ["Affine", "Affine"],
    ),
    "a constant minus a value": (9, [("Sub", "one x", "y", {})], MAP, {"one": single(1)}, ["Affine"]),
    "negation": (9, [("Neg", "x", "y", {})], MAP, {}, ["Affine"]),
    "clip by attributes": (7, [("Clip", "x", "y", {"min": 0.0, "max": 1.0})], MAP, {}, ["Activation"]),
    "clip by inputs, one missing": (
        11,
        [("Clip", "x - h", "y", {})],
        MAP,
        {"h": single(0.5)},
        ["Activation"],
    ),
    "prelu with one slope": (9, [("PRelu", "x a", "y", {})], MAP, {"a": normal(1) * 0 + 0.2}, ["Activation"]),
    "hard swish by parts": (
        11,
        [
            ("Add", "x three", "a", {}),
            ("Clip", "a zero six", "c", {}),
            ("Mul", "x c", "m", {}),
            ("Div", "m six", "y", {}),
        ],
        MAP,
        {"three": single(3), "zero": single(0), "six": single(6)},
        ["Activation"],
    ),
    "silu": (11, [("Sigmoid", "x", "s", {}), ("Mul", "s x", "y", {})], MAP, {}, ["Activation"]),
    "average pools": (
        11,
        [
            ("AveragePool", "x", "a", {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
            ("AveragePool", "a", "y", {"kernel_shape": [2, 3], "pads": [0, 1, 1, 2], "count_include_pad": 1}),
        ],
        MAP,
        {},
        ["AveragePool", "AveragePool"],
    ),
    "average pool with ceil": (
        19,
        [("AveragePool", "x", "y", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})],
        MAP,
        {},
        ["AveragePool"],
    ),
    "max pool of opset 8 and of 12 with ceil and dilation": (
        12,
        [
            ("MaxPool", "x", "a", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
            ("MaxPool", "a", "y", {"kernel_shape": [2, 2], "dilations": [2, 1], "pads": [1, 0, 0, 1]}),
        ],
        MAP,
        {},
        ["MaxPool", "MaxPool"],
    ),
    "global max pool": (9, [("GlobalMaxPool", "x", "y", {})], MAP, {}, ["MaxPool"]),
    "reduce mean of opset 11": (
        11,
        [("ReduceMean", "x", "y", {"axes": [2, -1], "keepdims": 0})],
        MAP,
        {},
        ["GlobalAveragePool", "Flatten"],
    ),
    "reduce mean of opset 18": (
        18,
        [("ReduceMean", "x axes", "y", {})],
        MAP,
        {"axes": ints(-1, -2)},
        ["GlobalAveragePool"],
    ),
    "reduce sum times one over n": (
        13,
        [("ReduceSum", "x axes", "s", {}), ("Mul", "s f", "y", {})],
        MAP,
        {"axes": ints(2, 3), "f": single(1 / 56)},
        ["GlobalAveragePool"],
    ),
    "reduce sum times a half": (
        13,
        [("ReduceSum", "x axes", "s", {}), ("Mul", "s f", "y", {})],
        MAP,
        {"axes": ints(2, 3), "f": single(0.5)},
        ["GlobalAveragePool", "Affine"],
    ),
    "reduce sum alone": (
        11,
        [("ReduceSum", "x", "y", {"axes": [2, 3]})],
        MAP,
        {},
        ["GlobalAveragePool", "Affine"],
    ),
    "flatten then gemm": (
        9,
        [("Flatten", "x", "f", {}), ("Gemm", "f m b", "y", {"transB": 1, "alpha": 0.5, "beta": 2.0})],
        SMALL,
        {"m": normal(5, 96), "b": normal(5)},
        ["MatMul"],
    ),
    "gemm without transposition and with one bias": (
        7,
        [("Flatten", "x", "f", {}), ("Gemm", "f m b", "y", {})],
        SMALL,
        {"m": normal(96, 5), "b": normal(1)},
        ["MatMul"],
    ),
    "matmul and add": (
        9,
        [("Reshape", "x to", "f", {}), ("MatMul", "f m", "p", {}), ("Add", "p b", "y", {})],
        SMALL,
        {"to": ints(0, -1), "m": normal(96, 5), "b": normal(5)},
        ["MatMul"],
    ),
    "flatten by shape arithmetic": (
        11,
        [
            ("Shape", "x", "s", {}),
            ("Gather", "s zero", "n", {"axis": 0}),
            ("Unsqueeze", "n", "n1", {"axes": [0]}),
            ("Concat", "n1 rest", "to", {"axis": 0}),
            ("Reshape", "x to", "f", {}),
            ("MatMul", "f m", "y", {}),
        ],
        SMALL,
        {"zero": np.array(0), "rest": ints(-1), "m": normal(96, 5)},
        ["MatMul"],
    ),
    "nhwc flatten": (
        11,
        [
            ("Transpose", "x", "t", {"perm": [0, 2, 3, 1]}),
            ("Reshape", "t to", "f", {}),
            ("MatMul", "f m", "y", {}),
        ],
        SMALL,
        {"to": ints(-1, 96), "m": normal(96, 5)},
        ["MatMul"],
    ),
    "squeeze and unsqueeze": (
        11,
        [
            ("GlobalAveragePool", "x", "p", {}),
            ("Squeeze", "p", "v", {"axes": [2, 3]}),
            ("Unsqueeze", "v", "u", {"axes": [2, 3]}),
            ("Mul", "x u", "y", {}),
        ],
        SMALL,
        {},
        ["GlobalAveragePool", "Elementwise"],
    ),
    "squeeze of opset 13, then dropout and identity": (
        13,
        [
            ("GlobalAveragePool", "x", "p", {}),
            ("Squeeze", "p axes", "v", {}),
            ("Dropout", "v", "d", {}),
            ("Identity", "d", "i", {}),
            ("Gemm", "i m", "y", {}),
        ],
        SMALL,
        {"axes": ints(3, 2), "m": normal(4, 5)},
        ["GlobalAveragePool", "MatMul"],
    ),
    "softmax before opset 13": (
        9,
        [("Flatten", "x", "f", {}), ("Softmax", "f", "y", {})],
        SMALL,
        {},
        ["Flatten", "Softmax"],
    ),
    "softmax before opset 13 on one pixel": (
        9,
        [("GlobalAveragePool", "x", "p", {}), ("Softmax", "p", "y", {})],
        SMALL,
        {},
        ["GlobalAveragePool", "Softmax"],
    ),
    "softmax over channels": (13, [("Softmax", "x", "y", {"axis": 1})], SMALL, {}, ["Softmax"]),
    "softmax over columns": (13, [("Softmax", "x", "y", {})], SMALL, {}, ["Softmax"]),
    "concat, split of opset 11 and slices": (
        11,
        [
            ("Split", "x", "a b", {"axis": 1, "split": [1, 3]}),
            ("Slice", "b starts ends axes steps", "c", {}),
            ("Concat", "a c", "y", {"axis": 1}),
        ],
        SMALL,
        {"starts": ints(-3, 0), "ends": ints(10**9, 100), "axes": ints(1, 3), "steps": ints(2, 1)},
        None,
    ),
    "split of opset 18 and slice of opset 9": (
        18,
        [("Split", "x", "a b c", {"axis": 2, "num_outputs": 3}), ("Concat", "b a", "y", {"axis": 3})],
        (4, 6, 5),
        {},
        ["Slice", "Slice", "Concat"],
    ),
    "slice of opset 9": (
        9,
        [("Slice", "x", "y", {"starts": [1, -2], "ends": [9, 100], "axes": [2, 3]})],
        SMALL,
        {},
        ["Slice"],
    ),
    "upsample of opset 7": (
        7,
        [("Upsample", "x", "y", {"scales": [1.0, 1.0, 2.0, 3.0]})],
        SMALL,
        {},
        ["Resize"],
    ),
    "upsample of opset 9, linear": (
        9,
        [("Upsample", "x scales", "y", {"mode": "linear"})],
        SMALL,
        {"scales": np.array([1, 1, 2, 2], np.float32)},
        ["Resize"],
    ),
    "resize of opset 10": (
        10,
        [("Resize", "x scales", "y", {})],
        SMALL,
        {"scales": np.array([1, 1, 2, 2], np.float32)},
        ["Resize"],
    ),
    "resize by half pixels to a size": (
        13,
        [("Resize", "x - - sizes", "y", {})],
        SMALL,
        {"sizes": ints(1, 4, 8, 12)},
        ["Resize"],
    ),
    "resize, linear, corners aligned": (
        13,
        [
            (
                "Resize",
                "x - - sizes",
                "y",
                {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            )
        ],
        SMALL,
        {"sizes": ints(1, 4, 7, 5)},
        ["Resize"],
    ),
    "n-ary sum and maximum": (
        8,
        [("Relu", "x", "r", {}), ("Sum", "x r x", "s", {}), ("Max", "s x r", "y", {})],
        MAP,
        {},
        ["Activation", "Elementwise", "Elementwise"],
    ),
    "lp normalisation": (9, [("LpNormalization", "x", "y", {"axis": 1})], MAP, {}, ["L2Norm"]),
    "l2 by square, sum, root": (
        11,
        [
            ("Mul", "x x", "q", {}),
            ("ReduceSum", "q", "s", {"axes": [1]}),
            ("Max", "s e", "f", {}),
            ("Sqrt", "f", "r", {}),
            ("Div", "x r", "u", {}),
            ("Mul", "u k", "y", {}),
        ],
        MAP,
        {"e": single(1e-6), "k": normal(1, 3, 1, 1)},
        ["L2Norm"],
    ),
    "x squared": (13, [("Pow", "x two", "p", {}), ("Relu", "p", "y", {})], MAP, {"two": single(2)}, None),
    "channel shuffle": (
        11,
        [
            ("Reshape", "x a", "r", {}),
            ("Transpose", "r", "t", {"perm": [0, 2, 1, 3, 4]}),
            ("Reshape", "t b", "y", {}),
        ],
        SMALL,
        {"a": ints(-1, 2, 2, 4, 6), "b": ints(-1, 4, 4, 6)},
        None,
    ),
    "constants computed when read": (
        13,
        [
            ("Transpose", "wt", "w", {"perm": [3, 2, 0, 1]}),
            ("Mul", "w k", "w2", {}),
            ("Conv", "x w2", "y", {}),
        ],
        MAP,
        {"wt": normal(3, 3, 3, 4), "k": normal(4, 1, 1, 1)},
        ["Convolution"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_graph_computes_what_onnx_runtime_does(case):
    opset, nodes, shape, constants, expected_kinds = CASES[case]
    source = model(opset, nodes, shape, batch=1 if "size" in case or "corners" in case else "N", **constants)
    graph = from_onnx(source)
    feed = {"x": np.random.default_rng(1).standard_normal((1, *shape)).astype(np.float32)}
    expected = onnx_runtime(source, feed, "none")["y"]
    found = evaluated(graph, feed)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert graph.signature.outputs[0].shape[1:] == expected.shape[1:]
    if expected_kinds is not None:
        assert [type(layer).__name__ for layer in graph.layers] == expected_kinds
    assert difference(graph, from_onnx(to_onnx(graph))) is None


@pytest.mark.parametrize("opset", range(7, onnx.defs.onnx_opset_version() + 1))
def test_a_convolution_network_reads_from_every_opset(opset):
    nodes = [CONV, ("Relu", "c", "r", {}), ("GlobalAveragePool", "r", "p", {}), ("Flatten", "p", "y", {})]
    graph = from_onnx(model(opset, nodes, MAP, **W))
    assert [type(layer) for layer in graph.layers] == [
        op.Convolution,
        op.Activation,
        op.GlobalAveragePool,
        op.Flatten,
    ]


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_the_batch_is_kept_and_constants_may_hold_it(batch):
    size = batch if isinstance(batch, int) else 1
    nodes = [("Reshape", "x to", "f", {}), ("MatMul", "f m", "y", {})]
    graph = from_onnx(model(11, nodes, SMALL, batch=batch, to=ints(size, 96), m=normal(96, 5)))
    assert graph.interface.inputs[0].batch == (None if batch == "N" else batch)
    assert [type(layer) for layer in graph.layers] == [op.MatMul]


def test_a_constant_node_and_an_initializer_listed_as_input_are_constants():
    nodes = [("Constant", "", "k", {"value_float": 2.0}), ("Mul", "x k", "m", {}), ("Conv", "m w b", "y", {})]
    source = model(13, nodes, MAP, **W)
    source.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [4, 3, 3, 3]))
    graph = from_onnx(source)
    assert [value.name for value in graph.inputs] == ["x"]
    assert (graph.layers[0].scale == 2).all()


def test_an_unnamed_node_takes_the_name_of_what_it_makes():
    source = model(13, [("Relu", "x", "y", {})], MAP)
    source.graph.node[0].name = ""
    assert from_onnx(source).layers[0].name == "y"


def test_nodes_that_share_a_name_get_different_ones():
    source = model(13, [("Relu", "x", "a", {}), ("Sigmoid", "a", "y", {})], MAP)
    for node in source.graph.node:
        node.name = "same"
    assert [layer.name for layer in from_onnx(source).layers] == ["same", "same_2"]


def test_nodes_that_no_output_needs_are_left_out():
    source = model(13, [("Relu", "x", "y", {}), ("Det", "x", "z", {})], MAP)
    assert [layer.name for layer in from_onnx(source).layers] == ["relu_y"]


def test_a_value_that_is_also_an_output_keeps_its_own_layer():
    nodes = [("MatMul", "x m", "p", {}), ("Add", "p b", "y", {})]
    source = model(13, nodes, (6,), outputs=("p", "y"), m=normal(6, 5), b=normal(5))
    assert [type(layer) for layer in from_onnx(source).layers] == [op.MatMul, op.Affine]
