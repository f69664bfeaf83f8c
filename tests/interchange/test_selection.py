import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gatecast.errors import NotFoundError
from gatecast.graph import evaluate
from gatecast.interchange import export, load, match_name
from gatecast.zoo import load as zoo_network


@pytest.mark.parametrize(
    ("asked", "known", "found"),
    [
        ("a", ["a"], "a"),
        ("a:0", ["a"], "a"),
        ("a", ["a:0"], "a:0"),
        ("a:1", ["a", "a:0"], None),
        ("classifier_1/x/Softmax:0", ["classifier/x/Softmax:0"], "classifier/x/Softmax:0"),
        ("classifier_1/x/Softmax:0", ["classifier/x/Softmax"], "classifier/x/Softmax"),
        ("classifier_12/x/Softmax", ["classifier/x/Softmax:0"], "classifier/x/Softmax:0"),
        ("classifier_1/x", ["classifier/x", "classifier_1/x"], "classifier_1/x"),
        ("classifier/x", ["classifier_1/x"], None),
        ("resnet_v1_50/logits", ["resnet_v1/logits"], "resnet_v1/logits"),
        ("x/classifier_1/y", ["x/classifier/y"], None),
        ("classifier_1", ["classifier"], None),
        ("_1/x", ["/x"], None),
        ("", ["a"], None),
    ],
)
def test_names_are_found_as_documents_write_them(asked, known, found):
    assert match_name(asked, known) == found


@pytest.fixture
def two_heads(tmp_path):
    """Two inputs, two outputs: y = relu(a), z = relu(a) + b; w is in nobody's way."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("a:0", "b")]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("y", "z")]
    nodes = [
        helper.make_node("Relu", ["a:0"], ["y"], "relu"),
        helper.make_node("Add", ["y", "b"], ["classifier/z"], "add"),
        helper.make_node("Relu", ["classifier/z"], ["z"], "end"),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "heads", inputs, outputs), opset_imports=[helper.make_opsetid("", 21)]
    )
    onnx.save(model, tmp_path / "heads.onnx")
    return tmp_path / "heads.onnx"


def names(graph):
    interface = graph.interface
    return [port.name for port in interface.inputs], [port.name for port in interface.outputs]


def test_without_a_selection_everything_stays(two_heads):
    assert names(load(two_heads)) == (["a:0", "b"], ["y", "z"])


def test_an_output_brings_only_the_inputs_that_it_needs(two_heads):
    assert names(load(two_heads, outputs=["y"])) == (["a:0"], ["y"])
    assert names(load(two_heads, inputs=["a"], outputs=["y"])) == (["a:0"], ["y"])


def test_outputs_come_in_the_order_they_are_asked_for(two_heads):
    assert names(load(two_heads, outputs=["z", "y"])) == (["a:0", "b"], ["z", "y"])
    assert names(load(two_heads, outputs=["z", "z"])) == (["a:0", "b"], ["z"])


def test_an_output_may_be_a_tensor_inside_and_answers_to_the_name_asked_for(two_heads):
    graph = load(two_heads, outputs=["classifier_1/z:0"])
    (port,) = graph.interface.outputs
    assert (port.name, port.aliases) == ("classifier/z", ("classifier_1/z:0",))
    assert len(graph.layers) == 2


def test_an_alias_travels_through_a_file(two_heads, tmp_path):
    export(load(two_heads, outputs=["classifier_1/z:0"]), tmp_path / "out.onnx")
    graph = load(tmp_path / "out.onnx", outputs=["z_1/none", "classifier_1/z"][1:])
    assert graph.interface.outputs[0].aliases == ("classifier_1/z:0", "classifier_1/z")


def test_unknown_outputs_and_inputs_are_refused_with_what_there_is(two_heads):
    with pytest.raises(NotFoundError, match="Output must be a tensor of the network, not softmax") as caught:
        load(two_heads, outputs=["softmax"])
    assert caught.value.hint == "The network has the outputs y, z."
    with pytest.raises(NotFoundError, match="Input must be a tensor of the network, not c") as caught:
        load(two_heads, inputs=["c"])
    assert caught.value.hint == "The network has the inputs a:0, b."
    with pytest.raises(
        NotFoundError, match="Inputs must be all that the outputs need; b must be one of them"
    ):
        load(two_heads, inputs=["a:0"], outputs=["z"])
    with pytest.raises(NotFoundError, match="Input must be a tensor of the network, not b"):
        load(two_heads, inputs=["b"], outputs=["y"])


def test_a_stored_interface_keeps_pictures_but_no_labels_of_another_output(tmp_path):
    graph = zoo_network("fashion")
    export(graph, tmp_path / "fashion.onnx")
    features = load(tmp_path / "fashion.onnx", outputs=["avgpool"])
    assert features.interface.inputs == graph.interface.inputs
    assert features.interface.labels == ()
    assert features.interface.outputs[0].name == "avgpool"
    same = load(tmp_path / "fashion.onnx", outputs=[graph.interface.outputs[0].name])
    assert same.interface == graph.interface
    pixels = np.random.default_rng(5).standard_normal((28, 28, 1)).astype(np.float32)
    (value,) = graph.inputs
    both = evaluate(same, {value.name: pixels})
    assert [list(found) for found in both.values()] == [
        list(found) for found in evaluate(graph, {value.name: pixels}).values()
    ]


def test_a_stored_output_that_the_file_lacks_is_still_refused(two_heads, tmp_path):
    export(load(two_heads), tmp_path / "out.onnx")
    model = onnx.load(tmp_path / "out.onnx")
    entry = next(entry for entry in model.metadata_props if entry.key == "gatecast.interface")
    data = json.loads(entry.value)
    data["outputs"][0]["name"] = "other"
    entry.value = json.dumps(data)
    onnx.save(model, tmp_path / "out.onnx")
    with pytest.raises(Exception, match=r"must name the file's outputs \['y', 'z'\], not \['other', 'z'\]"):
        load(tmp_path / "out.onnx")
