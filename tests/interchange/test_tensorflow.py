"""TensorFlow models as networks: SavedModels of both versions, frozen graphs, names, faults; and graphs
written as TensorFlow nodes.

TensorFlow's own session computes the expected values. Sums of a few hundred float32 terms of size 1 in
another order: 1e-4 for scores, 1e-5 for probabilities.
"""

import shutil
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.interchange.runtimes import onnx_runtime
from tests.random_graphs import random_graph, random_input

import gatecast
from gatecast import graph as op
from gatecast.errors import FileError, GraphError, NotFoundError, UnsupportedError
from gatecast.graph import Graph, Input, evaluate, evaluate_values
from gatecast.interchange import is_tensorflow, load, opening, to_onnx
from gatecast.quantization import quantize
from gatecast.runtime.images import decode_image
from gatecast.zoo import azureml_preprocessing

pytestmark = [
    pytest.mark.slow,
    # Keras's exporter and TensorFlow's loader use what NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def built():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow's import alone
        return import_module("tests.interchange.tensorflow_graphs")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    random = np.random.default_rng(5)
    file = tmp_path_factory.mktemp("picture") / "a.png"
    Image.fromarray(random.integers(0, 256, (300, 280, 3), dtype=np.uint8)).save(file)
    return file.read_bytes()


@pytest.fixture(scope="module")
def saved(built, picture, tmp_path_factory):
    """A SavedModel as the documents make it, and the probabilities that TensorFlow gives for the picture."""
    folder = tmp_path_factory.mktemp("saved") / "pictures"
    with built.control_flow(1):
        images = built.v1.placeholder(built.tf.string)
        tensor = built.image_tensors(images, azureml_preprocessing())
        output = built.convolved(tensor)
        with built.v1.Session() as session:
            session.run(built.v1.global_variables_initializer())
            expected = session.run(output, {images: [picture]})[0]
            inputs, outputs = {"images": images}, {"output_alias": output}
            built.v1.saved_model.simple_save(session, str(folder), inputs, outputs)
    return folder, expected


SOFTMAX = "classifier/predictions/Softmax"


class TestSavedModel:
    def test_it_computes_what_tensorflow_does(self, saved, picture):
        folder, expected = saved
        graph = load(folder, "Placeholder:0", "classifier_1/predictions/Softmax:0")
        (port,) = graph.interface.inputs
        assert (port.name, port.value, port.layout, port.batch) == ("Placeholder:0", "images", "NHWC", None)
        pixels = decode_image(picture, port.image)
        found = evaluate(graph, {"images": pixels})[graph.outputs[0]]
        assert np.abs(found - expected).max() < 1e-5
        (found,) = onnx_runtime(to_onnx(graph), {"Placeholder:0": pixels[None]}).values()
        assert np.abs(found[0] - expected).max() < 1e-5

    def test_ports_bear_the_names_as_given_and_answer_to_the_others(self, saved):
        folder, _ = saved
        graph = load(folder, ["Placeholder"], ["classifier_1/predictions/Softmax:0"])
        assert [port.name for port in graph.interface.inputs] == ["Placeholder"]
        (port,) = graph.interface.outputs
        assert port.name == "classifier_1/predictions/Softmax:0"
        assert set(port.aliases) == {
            "output_alias",
            "classifier_1/predictions/Softmax",
            "classifier/predictions/Softmax:0",
            "classifier/predictions/Softmax",
        }

    def test_without_names_the_signature_names_the_ports(self, saved):
        graph = gatecast.load(saved[0])
        assert graph.name == "pictures"
        assert [port.name for port in graph.interface.inputs] == ["images"]
        assert [port.name for port in graph.interface.outputs] == ["output_alias"]
        assert f"{SOFTMAX}:0" in graph.interface.outputs[0].aliases

    def test_several_names_are_joined_by_commas_or_listed(self, saved):
        names = ["net/Relu:0", f"{SOFTMAX}:0"]
        for outputs in (names, ", ".join(names)):
            graph = load(saved[0], "images", outputs)
            assert [port.name for port in graph.interface.outputs] == names
            assert graph.interface.outputs[0].layout == "NHWC"
            assert graph.shapes[graph.interface.outputs[0].value] == (112, 112, 8)

    def test_a_network_may_begin_behind_the_image_stage(self, saved):
        inner = "map_normalize_jpeg/TensorArrayStack/TensorArrayGatherV3:0"
        graph = load(saved[0], inner, SOFTMAX)
        assert graph.inputs[0].shape == (224, 224, 3)
        assert graph.interface.inputs[0].image is None

    def test_it_quantises_and_compiles_into_what_takes_pictures(self, saved, picture, tmp_path):
        folder, expected = saved
        graph = quantize(load(folder, "Placeholder:0", f"{SOFTMAX}:0"), "bfp8")
        gatecast.compile(graph, "software").save(tmp_path / "a.gcast")
        with gatecast.open(tmp_path / "a.gcast") as session:
            (found,) = session.run({"Placeholder:0": [picture, picture]}).values()
        assert found.shape == (2, 8)
        assert np.abs(found - expected).max() < 0.02

    def test_it_may_lie_in_a_numbered_folder_or_be_named_by_its_file(self, saved, tmp_path):
        shutil.copytree(saved[0], tmp_path / "model" / "1")
        assert is_tensorflow(tmp_path / "model")
        assert is_tensorflow(saved[0] / "saved_model.pb")
        assert load(tmp_path / "model").signature == load(saved[0] / "saved_model.pb").signature

    def test_unknown_names_are_listed_with_those_there_are(self, saved):
        with pytest.raises(
            NotFoundError, match="Outputs of .*pictures must be tensors of its graph, not a/b:0, c"
        ):
            load(saved[0], "images", "a/b:0,c")
        with pytest.raises(NotFoundError) as caught:
            load(saved[0], "images", f"{SOFTMAX}:7")
        assert caught.value.hint == (
            f"The signature has output_alias ({SOFTMAX}:0); the graph's last nodes are {SOFTMAX}:0."
        )
        with pytest.raises(NotFoundError, match="Inputs of .* not nothing:0") as caught:
            load(saved[0], "nothing:0", SOFTMAX)
        assert caught.value.hint == (
            "The signature has images (Placeholder:0); the graph's placeholders are Placeholder:0."
        )

    def test_inputs_must_be_those_that_the_outputs_need(self, saved):
        with pytest.raises(
            FileError, match="must depend on the inputs net/Relu only, not on Placeholder too"
        ):
            load(saved[0], "net/Relu", "map_normalize_jpeg/TensorArrayStack/TensorArrayGatherV3:0")


class TestDamage:
    def test_a_truncated_model(self, saved, tmp_path):
        data = (saved[0] / "saved_model.pb").read_bytes()
        (tmp_path / "saved_model.pb").write_bytes(data[: len(data) // 2])
        with pytest.raises(FileError, match="must be a TensorFlow model, whole and unchanged"):
            load(tmp_path)

    @pytest.mark.parametrize("what", ["missing", "cut", "changed"])
    def test_variables_that_are_not_as_they_were(self, saved, tmp_path, what):
        folder = shutil.copytree(saved[0], tmp_path / "model")
        file = folder / "variables" / "variables.data-00000-of-00001"
        data = file.read_bytes()
        match what:
            case "missing":
                shutil.rmtree(folder / "variables")
            case "cut":
                file.write_bytes(data[: len(data) // 2])
            case "changed":
                file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(FileError, match=r"(Checkpoint|Variable) .* must be readable"):
            load(folder)

    def test_a_file_of_another_kind(self, tmp_path):
        (tmp_path / "a.pb").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
        with pytest.raises(FileError, match=r"a.pb must be a (TensorFlow model|frozen TensorFlow graph)"):
            load(tmp_path / "a.pb")
        (tmp_path / "empty.pb").write_bytes(b"")
        with pytest.raises(FileError, match="empty.pb must be a frozen TensorFlow graph; it holds no nodes"):
            load(tmp_path / "empty.pb")

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileError, match="none.pb must be readable: No such file"):
            load(tmp_path / "none.pb")


class TestFrozenGraph:
    def graph_def(self, built):
        tf = built.tf
        with built.control_flow(1) as graph:
            x = built.v1.placeholder(tf.float32, [None, 9, 8, 3], name="x")
            y = tf.nn.conv2d(x, np.full((3, 3, 3, 4), 0.1, np.float32), 1, "SAME")
            built.v1.placeholder_with_default(True, [], name="is_training")
            tf.nn.relu(y, name="y")
        return graph.as_graph_def()

    def test_placeholders_and_last_nodes_are_the_ports(self, built, tmp_path):
        (tmp_path / "frozen.pb").write_bytes(self.graph_def(built).SerializeToString())
        graph = load(tmp_path / "frozen.pb")
        assert graph.signature.to_json() == {
            "inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 9, 8, 3]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": [-1, 9, 8, 4]}],
        }
        assert [type(layer).__name__ for layer in graph.layers] == ["Convolution", "Activation"]
        found = evaluate(graph, {"x": np.ones((9, 8, 3), np.float32)})["y"]
        assert np.isclose(found[4, 4, 0], 2.7) and np.isclose(found[0, 0, 0], 1.2)

    def test_text_is_read_too(self, built, tmp_path):
        (tmp_path / "frozen.pbtxt").write_text(str(self.graph_def(built)))
        assert load(tmp_path / "frozen.pbtxt").outputs == ("y",)

    def test_all_unsupported_nodes_are_named(self, built, tmp_path):
        tf = built.tf
        with tf.Graph().as_default() as graph:
            x = built.v1.placeholder(tf.float32, [None, 8, 8, 3], name="x")
            y = tf.math.erfinv(x, name="odd")
            y = tf.math.bessel_i0(tf.nn.relu(y), name="odder")
            tf.identity(y, name="y")
        (tmp_path / "odd.pb").write_bytes(graph.as_graph_def().SerializeToString())
        with pytest.raises(UnsupportedError) as caught:
            load(tmp_path / "odd.pb", "x", "y")
        assert str(caught.value) == (
            "Network odd must have operators that Gatecast knows, not these 2: "
            "odd/Erfinv (Erfinv: not supported); odder/BesselI0 (BesselI0: not supported)"
        )

    def test_operators_that_tensorflow_does_not_know_are_named(self, built, tmp_path):
        graph_def = self.graph_def(built)
        graph_def.node.add(name="custom", op="OurOwnOperator", input=["y"])
        (tmp_path / "custom.pb").write_bytes(graph_def.SerializeToString())
        with pytest.raises(UnsupportedError, match=r"not custom \(OurOwnOperator\)"):
            load(tmp_path / "custom.pb")

    def test_variables_without_values_are_refused(self, built, tmp_path):
        with built.tf.Graph().as_default() as graph:
            x = built.v1.placeholder(built.tf.float32, [None, 8, 8, 3])
            built.convolved(x)
        (tmp_path / "a.pb").write_bytes(graph.as_graph_def().SerializeToString())
        with pytest.raises(FileError, match="must hold constants only, not variables: net/weights"):
            load(tmp_path / "a.pb", "Placeholder", SOFTMAX)

    def test_inputs_of_any_size_are_refused(self, built, tmp_path):
        with built.tf.Graph().as_default() as graph:
            x = built.v1.placeholder(built.tf.float32, [None, None, None, 3], name="x")
            built.tf.nn.relu(x, name="y")
        (tmp_path / "a.pb").write_bytes(graph.as_graph_def().SerializeToString())
        with pytest.raises(
            UnsupportedError, match=r"must be float32 of a fixed size, not float32 \['\?', '\?'"
        ):
            load(tmp_path / "a.pb")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Keras networks as SavedModels of TensorFlow 2, with what Keras computes; by a process of its own."""
    folder = tmp_path_factory.mktemp("keras")
    script = str(Path(__file__).with_name("keras_networks.py"))
    command = [sys.executable, script, str(folder), "--saved-model"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_a_keras_network_is_read_with_the_names_of_its_signature(exported, built):
    graph = load(exported / "residual")
    assert [port.name for port in graph.interface.inputs] == ["image"]
    (port,) = graph.interface.outputs
    data = np.load(exported / "residual.npz")
    for x, expected in zip(data["x"], data["y"], strict=True):
        found = evaluate(graph, {graph.inputs[0].name: x})[port.value]
        assert np.abs(found - expected).max() < 1e-5
    (tensor,) = [name for name in port.aliases if name.endswith(":0")]
    assert tensor.startswith("StatefulPartitionedCall")
    named = load(exported / "residual", "serving_default_image:0", tensor)
    assert named.interface.outputs[0].name == tensor
    assert port.name in named.interface.outputs[0].aliases


class TestMissingExtra:
    def test_it_is_said_how_to_get_it(self, saved, monkeypatch):
        monkeypatch.setattr(opening, "find_spec", lambda name: None)
        with pytest.raises(
            UnsupportedError, match="need tensorflow and tf2onnx, which is not installed"
        ) as caught:
            load(saved[0])
        assert caught.value.hint == "Install the extra: pip install 'gatecast[tensorflow]'."


class TestWriter:
    def test_written_networks_compute_what_the_evaluator_does(self, built):
        count = 0
        for seed in range(60):
            graph, feed = random_graph(seed), random_input(random_graph(seed), seed)
            with built.tf.Graph().as_default():
                inputs = {v.name: built.tf.constant(feed[v.name][None]) for v in graph.inputs}
                try:
                    tensors = built.write_graph(graph, inputs).tensors
                except GraphError:
                    continue
                with built.v1.Session() as session:
                    try:
                        found = session.run({name: tensors[name] for name in graph.outputs})
                    except built.tf.errors.UnimplementedError:
                        continue  # convolutions in groups, on a processor
            expected = evaluate_values(graph, feed)
            for name in graph.outputs:
                assert np.allclose(found[name][0], expected[name], rtol=1e-4, atol=1e-4), (seed, name)
            count += 1
        assert count > 15

    def small(self):
        random = np.random.default_rng(2)
        weights = random.normal(0, 0.3, (5, 3, 3, 3)).astype(np.float32)

        def vector(low):
            return random.uniform(low, 1, 5).astype(np.float32)

        layers = (
            op.Convolution(name="conv", inputs=("x",), weights=weights, pads=(2, 1, 0, 1), stride=(2, 1)),
            op.BatchNorm(
                name="bn",
                inputs=("conv",),
                gamma=vector(0.5),
                beta=vector(-1),
                mean=vector(-1),
                variance=vector(0.1),
            ),
            op.Activation(name="relu", inputs=("bn",), kind="relu"),
        )
        return Graph("small", (Input("x", (7, 6, 3)),), layers, ("relu",))

    def test_weights_become_variables_under_given_names(self, built):
        graph, x = self.small(), np.random.default_rng(1).normal(size=(7, 6, 3)).astype(np.float32)
        with built.tf.Graph().as_default() as tf_graph, built.v1.Session() as session:
            tensor = built.tf.constant(x[None])
            written = built.write_graph(graph, {"x": tensor}, names=lambda n: f"net/{n}", variables=True)
            built.set_variables(session, written.variables)
            found = session.run(written.tensors["relu"])[0]
            assert not built.v1.trainable_variables()
        assert [variable.op.name for variable, _ in written.variables] == [
            "net/conv/weights", "net/bn/gamma", "net/bn/beta", "net/bn/moving_mean", "net/bn/moving_variance",
        ]  # fmt: skip
        assert written.tensors["relu"].name == "net/relu:0"
        assert np.abs(found - evaluate(graph, {"x": x})["relu"]).max() < 1e-5
        assert len(tf_graph.as_graph_def().SerializeToString()) < 20000

    def test_what_cannot_be_written_is_named(self, built):
        graph = self.small()
        with built.tf.Graph().as_default():
            with pytest.raises(GraphError, match="Inputs of small must all be given; x is missing"):
                built.write_graph(graph, {})
            with pytest.raises(GraphError, match="must be float to be written for TensorFlow"):
                built.write_graph(quantize(graph, "bfp8"), {})
            odd = graph.with_layers((*graph.layers, op.L2Norm(name="norm", inputs=("relu",))))
            x = built.v1.placeholder(built.tf.float32, [None, 7, 6, 3])
            with pytest.raises(GraphError, match=r"Layer norm \(L2Norm\) has no form in TensorFlow here"):
                built.write_graph(odd, {"x": x})
