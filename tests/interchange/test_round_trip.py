"""Equality 6: load(export(g)) = g, with the same Encode points, mantissas, exponents and outputs."""

import numpy as np
import onnx
import pytest
from tests.interchange.runtimes import difference, evaluated, feed_of
from tests.random_graphs import random_graph, random_input

from gatecast import graph as op
from gatecast.errors import GraphError
from gatecast.graph import Graph, Input, InputPort, Interface, OutputPort, Preprocessing, evaluate_values
from gatecast.interchange import export, from_onnx, load, to_onnx
from gatecast.numerics import BFP5, BFP8, encode
from gatecast.quantization import quantize


@pytest.mark.parametrize("seed", range(60))
def test_a_float_network_comes_back_as_it_was(seed):
    graph = random_graph(seed)
    again = from_onnx(to_onnx(graph))
    assert difference(graph, again) is None


@pytest.mark.parametrize("seed", range(60))
def test_a_quantised_network_comes_back_with_every_bit(seed):
    graph = quantize(random_graph(seed), ("bfp8", "bfp5/bfp6", "bfp4")[seed % 3])
    again = from_onnx(to_onnx(graph))
    assert difference(graph, again) is None
    inputs = random_input(graph, seed)
    values, values_again = evaluate_values(graph, inputs), evaluate_values(again, inputs)
    assert all((values[name] == values_again[name]).all() for name in values)


@pytest.mark.parametrize("seed", range(60, 70))
def test_the_inlined_form_comes_back_with_every_bit(seed):
    graph = quantize(random_graph(seed), ("bfp8", "bfp7")[seed % 2])
    model = to_onnx(graph, inline=True)
    assert not model.functions
    assert difference(graph, from_onnx(model)) is None


@pytest.mark.parametrize("inline", [False, True])
def test_export_writes_the_same_bytes_each_time(tmp_path, inline):
    graph = quantize(random_graph(7), "bfp8")
    export(graph, tmp_path / "a.onnx", inline=inline)
    export(load(tmp_path / "a.onnx"), tmp_path / "b.onnx", inline=inline)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_export_leaves_no_other_file_and_replaces_an_old_one(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")
    export(random_graph(1), path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    assert load(path).name == "random_1"


def grouped(channels, groups, outputs, fmt=BFP8, kernel=(3, 2), seed=0):
    """A quantised network of one grouped convolution whose weights are in blocks for each piece."""
    rng = np.random.default_rng(seed)
    per_group = channels // groups
    firsts = op.first_blocks(per_group, groups)
    pieces = op.pieces_of(per_group, groups)
    mantissas = np.zeros((outputs, *kernel, pieces, 32), np.int8)
    exponents = np.full((outputs, *kernel, pieces), 127 - 48, np.uint8)
    for output in range(outputs):
        group = output // (outputs // groups)
        for channel in range(group * per_group, (group + 1) * per_group):
            piece, lane = channel // 32 - firsts[group], channel % 32
            limit = fmt.mantissa_max
            mantissas[output, :, :, piece, lane] = rng.integers(-limit, limit + 1, kernel)
            exponents[output, :, :, piece] = rng.integers(127 - 48, 127 + 49, kernel)
    weights = op.BlockWeights(fmt, mantissas, exponents, per_group)
    layers = (
        op.Encode(name="encoded", inputs=("x",), format=fmt),
        op.Convolution(name="conv", inputs=("encoded",), weights=weights, groups=groups),
    )
    return Graph("grouped", (Input("x", (4, 5, channels)),), layers, ("conv",))


@pytest.mark.parametrize(
    ("channels", "groups", "outputs"),
    [
        (64, 1, 3),
        (40, 1, 3),
        (21, 1, 3),
        (64, 64, 64),
        (40, 40, 80),
        (96, 2, 4),
        (96, 3, 6),
        (72, 3, 3),
        (120, 5, 10),
        (100, 2, 2),
        (128, 4, 8),
        (66, 33, 33),
    ],
)
@pytest.mark.parametrize("fmt", [BFP8, BFP5])
def test_weights_of_groups_come_back_piece_by_piece(channels, groups, outputs, fmt):
    graph = grouped(channels, groups, outputs, fmt)
    assert difference(graph, from_onnx(to_onnx(graph))) is None


def test_weights_that_encode_would_not_make_are_kept_verbatim():
    graph = grouped(64, 1, 2)
    weights = graph.layers[1].weights
    mantissas, exponents = weights.mantissas.copy(), weights.exponents.copy()
    mantissas[0] = 0
    mantissas[1] = 1  # encode would choose a smaller exponent
    exponents[:] = 127 + 5
    layer = op.Convolution(
        name="conv", inputs=("encoded",), weights=op.BlockWeights(BFP8, mantissas, exponents, 64)
    )
    graph = graph.with_layers((graph.layers[0], layer))
    assert difference(graph, from_onnx(to_onnx(graph))) is None


def every_layer():
    """A float network with one layer of each kind, and of each kind of activation."""
    rng = np.random.default_rng(3)
    vector = rng.standard_normal(6).astype(np.float32)
    layers = [
        op.Pad(name="pad", inputs=("x",), pads=(0, 1, 2, 3), value=0.5),
        op.Convolution(
            name="conv",
            inputs=("pad",),
            weights=rng.standard_normal((6, 2, 3, 2)).astype(np.float32),
            bias=vector,
            stride=(2, 1),
            pads=(1, 0, 0, 1),
            dilation=(1, 2),
            groups=2,
        ),
        op.BatchNorm(
            name="norm",
            inputs=("conv",),
            gamma=vector,
            beta=vector,
            mean=vector,
            variance=vector**2,
            epsilon=0.125,
        ),
        op.Affine(name="affine", inputs=("norm",), scale=vector, shift=np.zeros(6, np.float32)),
        op.Affine(name="affine2", inputs=("affine",), scale=np.ones(6, np.float32), shift=vector),
    ]
    source = "affine2"
    kinds = ("relu", "clip", "leaky_relu", "hard_sigmoid", "hard_swish", "sigmoid", "silu")
    for kind, (low, high) in zip(
        kinds,
        [(None, None), (-1.0, 2.0), (0.25, None), (0.125, 0.5), (0.125, 0.5), (None,) * 2, (None,) * 2],
        strict=True,
    ):
        limits = {"low": low} if low is not None else {}
        limits |= {"high": high} if high is not None else {}
        layers.append(op.Activation(name=kind, inputs=(source,), kind=kind, **limits))
        source = kind
    layers += [
        op.MaxPool(
            name="max", inputs=("silu",), kernel=(2, 2), stride=(1, 2), pads=(1, 0, 0, 1), dilation=(2, 1)
        ),
        op.AveragePool(name="mean", inputs=("max",), kernel=(2, 2), stride=(1, 1), ceil=True),
        op.Elementwise(name="sum", inputs=("mean", "mean", "mean"), kind="add"),
        op.Elementwise(name="square", inputs=("sum", "sum"), kind="multiply"),
        op.Elementwise(name="cube", inputs=("sum", "sum", "sum"), kind="multiply"),
        op.Elementwise(name="gate", inputs=("sum", "sigmoid_gate"), kind="multiply"),
        op.Elementwise(name="difference", inputs=("gate", "cube"), kind="subtract"),
        op.Elementwise(name="largest", inputs=("difference", "sum", "square"), kind="maximum"),
        op.L2Norm(name="unit", inputs=("largest",), epsilon=2.0**-40),
        op.L2Norm(name="unit2", inputs=("unit",), scale=vector, epsilon=2.0**-30),
        op.Resize(name="twice", inputs=("unit2",), size=(6, 9)),
        op.Resize(
            name="linear", inputs=("twice",), size=(5, 4), mode="bilinear", coordinates="align_corners"
        ),
        op.Concat(name="joined", inputs=("linear", "linear")),
        op.Concat(name="higher", inputs=("joined", "joined"), axis=0),
        op.Slice(name="part", inputs=("higher",), starts=(1, 0, 2), stops=(9, 4, 12), steps=(2, 1, 3)),
        op.Transpose(name="turned", inputs=("part",), order=(2, 0, 1)),
        op.Reshape(name="shaped", inputs=("turned",), shape=(8, 8)),
        op.Reshape(name="map", inputs=("shaped",), shape=(2, 4, 8)),
        op.Softmax(name="along_rows", inputs=("map",), axis=0),
        op.Flatten(name="flat", inputs=("along_rows",)),
        op.Flatten(name="straight", inputs=("along_rows",), order="hwc"),
        op.Concat(name="both", inputs=("flat", "straight")),
        op.MatMul(
            name="matrix",
            inputs=("along_rows",),
            weights=rng.standard_normal((3, 2, 4, 8)).astype(np.float32),
        ),
        op.GlobalAveragePool(name="pixel", inputs=("along_rows",)),
        op.Flatten(name="vector", inputs=("pixel",)),
    ]
    gate = op.Activation(name="sigmoid_gate", inputs=("sum",), kind="sigmoid")
    at = [layer.name for layer in layers].index("gate")
    layers.insert(at, gate)
    outputs = ("both", "matrix", "vector", "pixel")
    return Graph("every", (Input("x", (6, 7, 4)),), tuple(layers), outputs)


def test_every_kind_of_layer_comes_back():
    graph = every_layer()
    kinds = {type(layer) for layer in graph.layers} | {op.Encode}
    assert kinds == {getattr(op, name) for name in op.__all__} & set(op.Layer.__subclasses__())
    assert difference(graph, from_onnx(to_onnx(graph))) is None


def test_the_interface_travels_whole():
    graph = random_graph(3)
    image = Preprocessing(name="p", height=2, width=3, mean=(1.0, 2.0, 3.0), short_side=4)
    interface = Interface(
        inputs=(InputPort(name="in:0", value="images", layout="NHWC", batch=4, image=image),),
        outputs=(
            OutputPort(name="scores", value=graph.outputs[0], layout="as_is", aliases=("a", "b")),
            OutputPort(name="again", value=graph.outputs[0], layout="as_is"),
        ),
        labels=("cat", "dog", "gâteau"),
    )
    graph = Graph("named", graph.inputs, graph.layers, graph.outputs[:1], interface)
    assert from_onnx(to_onnx(graph)).interface == interface


def test_names_of_ports_and_parts_never_clash_with_layers():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((4, 1, 1, 4)).astype(np.float32)
    layers = (
        op.Convolution(name="y", inputs=("x",), weights=weights),
        op.Convolution(name="y.weight", inputs=("y",), weights=weights),
        op.Activation(name="out", inputs=("y.weight",), kind="silu"),
        op.Activation(name="out.gate", inputs=("out",), kind="sigmoid"),
    )
    interface = Interface(
        inputs=(InputPort(name="y", value="x", layout="NHWC"),),
        outputs=(OutputPort(name="out", value="out.gate", layout="NCHW"),),
    )
    graph = Graph("clash", (Input("x", (2, 2, 4)),), layers, ("out.gate",), interface)
    assert difference(graph, from_onnx(to_onnx(graph))) is None


def test_mantissas_and_scale_bytes_can_be_read_by_any_tool():
    graph = quantize(grouped_float(), "bfp5", first="bfp5")
    model = to_onnx(graph)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    conv = next(layer for layer in graph.layers if isinstance(layer, op.Convolution))
    mantissas = np.frombuffer(tensors["conv.weight.bfp5"].raw_data, np.int8).reshape(4, 2, 32, 1, 1)
    scales = np.frombuffer(tensors["conv.weight.e8m0"].raw_data, np.uint8).reshape(4, 2, 1, 1, 1)
    values = mantissas * 2.0 ** (scales.astype(int) - 127)
    expected = np.asarray(grouped_float().layers[0].weights)
    m, e = encode(expected, BFP5)
    assert (values.reshape(4, 64) == (m * 2.0 ** (e.astype(int) - 127 - 3)[..., None]).reshape(4, 64)).all()
    assert conv.weights.format == BFP5
    assert (model.ir_version, model.opset_import[0].version) == (10, 21)
    assert [function.name for function in model.functions] == ["EncodeBfp5"]


def grouped_float():
    """A float network of one 1 x 1 convolution of 64 channels, not the first one."""
    rng = np.random.default_rng(5)
    weights = rng.standard_normal((4, 1, 1, 64)).astype(np.float32)
    layer = op.Convolution(name="conv", inputs=("x",), weights=weights)
    return Graph("one", (Input("x", (3, 3, 64)),), (layer,), ("conv",))


def test_a_file_whose_marks_and_metadata_were_stripped_still_has_the_same_meaning():
    graph = quantize(random_graph(2), "bfp8")
    model = to_onnx(graph)
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.name = ""
    again = from_onnx(model)
    encodes, encodes_again = (
        [layer.format for layer in g.layers if isinstance(layer, op.Encode)] for g in (graph, again)
    )
    assert encodes == encodes_again
    inputs = random_input(graph, 0)
    feed = feed_of(graph, inputs)
    for port, port_again in zip(graph.interface.outputs, again.interface.outputs, strict=True):
        assert (evaluated(graph, feed)[port.name] == evaluated(again, feed)[port_again.name]).all()


def test_a_file_saved_again_with_its_data_beside_it_is_the_same_network(tmp_path):
    graph = quantize(random_graph(7), "bfp8")
    onnx.save(
        to_onnx(graph),
        tmp_path / "a.onnx",
        save_as_external_data=True,
        location="a.data",
        size_threshold=64,
    )
    assert (tmp_path / "a.data").stat().st_size > 0
    assert difference(graph, load(tmp_path / "a.onnx")) is None


def test_a_graph_whose_ports_leave_out_an_output_is_refused():
    graph = random_graph(1)
    interface = Interface(inputs=graph.interface.inputs, outputs=())
    graph = Graph(graph.name, graph.inputs, graph.layers, graph.outputs, interface)
    with pytest.raises(GraphError, match=r"Ports of random_1 must stand for its outputs .*, not none"):
        to_onnx(graph)


def test_encoding_a_value_that_is_no_map_or_vector_is_refused():
    layer = op.Encode(name="y", inputs=("x",), format=BFP8)
    graph = Graph("g", (Input("x", (3, 4)),), (layer,), ("y",))
    with pytest.raises(GraphError, match=r"Layer y must encode a map or a vector, not .* \(3, 4\)"):
        to_onnx(graph)


def test_weights_in_blocks_reach_a_product_by_any_way():
    """MatMul and Add with the matrix transposed, as another tool may rewrite Gemm."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((5, 2, 3, 40)).astype(np.float32)
    layer = op.MatMul(name="fc", inputs=("x",), weights=weights, bias=weights[:, 0, 0, 0])
    graph = quantize(Graph("g", (Input("x", (2, 3, 40)),), (layer,), ("fc",)), "bfp6", first="bfp6")
    model = to_onnx(graph)
    gemm = model.graph.node.pop()
    source, matrix, bias = gemm.input
    model.graph.node.extend(
        [
            onnx.helper.make_node("Transpose", [matrix], ["turned"], perm=[1, 0]),
            onnx.helper.make_node("MatMul", [source, "turned"], ["product"]),
            onnx.helper.make_node("Add", [bias, "product"], [gemm.output[0]], name="fc"),
        ]
    )
    assert difference(graph, from_onnx(model)) is None
