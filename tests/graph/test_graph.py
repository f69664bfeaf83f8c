import numpy as np
import pytest

from gatecast.errors import FileError, GraphError, NotFoundError
from gatecast.graph import (
    Activation,
    BlockWeights,
    Graph,
    Input,
    InputPort,
    Interface,
    MatMul,
    OutputPort,
    Preprocessing,
    Signature,
    TensorSpec,
    outer_shape,
    pieces_of,
)
from gatecast.numerics import BFP8


def relu(name, source):
    return Activation(name=name, inputs=(source,), kind="relu")


def graph(*layers, outputs=("y",), **fields):
    return Graph("net", (Input("x", (4, 5, 3)),), layers, outputs, **fields)


def test_shapes_and_consumers_follow_from_the_layers():
    net = graph(relu("a", "x"), relu("y", "a"), relu("z", "a"), outputs=("y", "z"))
    assert net.shapes == {"x": (4, 5, 3), "a": (4, 5, 3), "y": (4, 5, 3), "z": (4, 5, 3)}
    assert [layer.name for layer in net.consumers["a"]] == ["y", "z"]
    assert net.consumers["z"] == ()
    assert not net.is_quantized
    assert net.layer("a") is net.layers[0]


@pytest.mark.parametrize(
    ("layers", "outputs", "text"),
    [
        ([relu("y", "a"), relu("a", "x")], ("y",), "Layer y must read earlier values, not a"),
        ([relu("x", "x")], ("x",), "must have different names, not x twice"),
        ([relu("y", "x"), relu("y", "x")], ("y",), "must have different names, not y twice"),
        ([relu("y", "x")], ("z",), "Outputs of net must be values of the graph, not z"),
        ([relu("y", "x")], (), "Graph net must have at least one output"),
    ],
)
def test_a_graph_that_is_not_well_formed_is_refused(layers, outputs, text):
    with pytest.raises(GraphError, match=text):
        graph(*layers, outputs=outputs)


def test_a_port_names_a_value():
    ports = Interface(inputs=(InputPort(name="in", value="x"),), outputs=(OutputPort(name="out", value="q"),))
    with pytest.raises(GraphError, match="Port out of net must name a value of the graph, not q"):
        graph(relu("y", "x"), interface=ports)


def test_an_unknown_layer_is_named():
    with pytest.raises(NotFoundError, match="Layer must be one of net, not 'q'"):
        graph(relu("y", "x")).layer("q")


def test_the_signature_keeps_the_sources_names_layout_and_batch():
    image = Preprocessing(name="p", height=4, width=5)
    ports = Interface(
        inputs=(InputPort(name="images:0", value="x", layout="NCHW", image=image),),
        outputs=(OutputPort(name="out", value="y", layout="NCHW", batch=1),),
    )
    net = graph(relu("y", "x"), interface=ports)
    assert net.signature == Signature(
        (TensorSpec("images:0", "string", (-1,)),), (TensorSpec("out", "float32", (1, 3, 4, 5)),)
    )
    assert outer_shape((4, 5, 3), ports.inputs[0]) == (-1, 3, 4, 5)
    assert Signature.from_json(net.signature.to_json()) == net.signature


def test_without_an_interface_ports_have_the_values_names():
    assert graph(relu("y", "x")).signature == Signature(
        (TensorSpec("x", "float32", (-1, 4, 5, 3)),), (TensorSpec("y", "float32", (-1, 4, 5, 3)),)
    )


def test_an_interface_comes_back_from_json():
    image = Preprocessing(
        name="p",
        height=4,
        width=5,
        channels="BGR",
        resize="legacy_bilinear",
        short_side=8,
        mean=(1.0, 2.0, 3.0),
        scale=0.5,
    )
    interface = Interface(
        inputs=(
            InputPort(name="i", value="x", layout="NHWC", batch=2, image=image),
            InputPort(name="j", value="x"),
        ),
        outputs=(OutputPort(name="o", value="y", aliases=("output_alias",)),),
        labels=("cat", "dog"),
    )
    assert Interface.from_json(interface.to_json()) == interface
    assert image.shape == (4, 5, 3)


@pytest.mark.parametrize(
    "data", [{}, {"inputs": [{"nom": "x"}], "outputs": []}, {"inputs": 3, "outputs": []}]
)
def test_an_interface_of_another_form_is_refused(data):
    with pytest.raises(FileError, match="Interface must have the form of version 1"):
        Interface.from_json(data)
    with pytest.raises(FileError, match="Signature must list inputs and outputs"):
        Signature.from_json({"inputs": [{}]})


def test_weights_in_blocks_keep_to_the_range():
    mantissas = np.zeros((2, 1, 1, 1, 32), np.int8)
    exponents = np.full((2, 1, 1, 1), 127, np.uint8)
    weights = BlockWeights(BFP8, mantissas, exponents, channels=3)
    assert weights.shape == (2, 1, 1, 3)
    assert weights.decode().shape == (2, 1, 1, 1, 32)
    mantissas = mantissas.copy()
    mantissas[1, 0, 0, 0, 5] = -128
    with pytest.raises(GraphError, match="Weights must keep to the range of bfp8"):
        BlockWeights(BFP8, mantissas, exponents, channels=3)
    with pytest.raises(GraphError, match="Mantissas must have the shape of the exponents and 32 more"):
        BlockWeights(BFP8, mantissas[..., :31], exponents, channels=3)


def test_a_matrix_product_over_blocks_needs_one_for_each_32_channels():
    weights = BlockWeights(
        BFP8, np.zeros((2, 1, 1, 2, 32), np.int8), np.full((2, 1, 1, 2), 127, np.uint8), channels=3
    )
    with pytest.raises(GraphError, match="Weights of m must have 1 blocks a tap, not 2"):
        Graph("net", (Input("x", (3,)),), (MatMul(name="m", inputs=("x",), weights=weights),), ("m",))


def test_groups_touch_as_many_blocks_as_their_channels_straddle():
    cases = [(32, 1), (33, 1), (1, 64), (16, 4), (48, 2), (34, 16), (35, 22)]
    assert [pieces_of(channels, groups) for channels, groups in cases] == [1, 2, 1, 1, 2, 2, 3]
