"""The original API's networks as TensorFlow nodes, saved, read back, quantised: with the test data's weights.

TensorFlow's session computes the expected probabilities. float32 in another order through 50 layers: 1e-5.
JPEG files come out a few steps of 255 apart, as `decode_png` takes the fast DCT; so top-1 is compared, and
probabilities for the same tensors.
"""

import os
import warnings
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gatecast
from gatecast import zoo
from gatecast.errors import FileError, GraphError
from gatecast.graph import Affine, evaluate
from gatecast.interchange import load
from gatecast.quantization import quantize
from gatecast.runtime.images import decode_image

pytestmark = pytest.mark.slow

OUTPUT = "classifier_1/resnet_v1_50/predictions/Softmax:0"
PHOTOGRAPHS = ("snowleopardgaze.jpg", "tiger.jpg", "schoolbus.jpg")


@pytest.fixture(scope="module")
def models():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow's import alone
        return import_module("gatecast.compat.accel_models")


@pytest.fixture(scope="module")
def v1(models):
    return models.v1


@pytest.fixture(scope="module")
def documented(models, v1, tmp_path_factory):
    """The graph of the document, saved; what TensorFlow computes for photographs, and for our own pixels."""
    folder = os.environ.get("GATECAST_TEST_DATA")
    if not folder:
        pytest.skip("GATECAST_TEST_DATA is not set: weights and photographs")
    data = [Path(folder, "images", "azure_samples", name).read_bytes() for name in PHOTOGRAPHS]
    rule = zoo.azureml_preprocessing()
    pixels = np.stack([decode_image(picture, rule) for picture in data])
    saved = tmp_path_factory.mktemp("models") / "resnet50"
    v1.disable_control_flow_v2()
    try:
        with models.tf.Graph().as_default() as graph:
            images = v1.placeholder(models.tf.string)
            tensors = models.preprocess_array(images)
            model = models.QuantizedResnet50(str(saved.parent), is_frozen=True)
            features = model.import_graph_def(tensors)
            output = model.get_default_classifier(features)
            with v1.Session() as session:
                model.restore_weights(session)
                inputs, outputs = {"images": images}, {"output_alias": output}
                v1.saved_model.simple_save(session, str(saved), inputs, outputs)
                session_pixels, pictured = session.run([tensors, output], {images: data})
                expected = session.run(output, {tensors: pixels})
                model.save_weights(str(saved.parent / "weights" / "resnet50"), session)
            second = model.get_default_classifier(features)
    finally:
        v1.enable_control_flow_v2()
    return SimpleNamespace(**locals())


@pytest.fixture(scope="module")
def network(documented):
    return load(documented.saved, documented.images.name, OUTPUT)


class TestGraph:
    def test_tensors_bear_the_documented_names(self, documented):
        assert documented.images.name == "Placeholder:0"
        name = "map_normalize_jpeg/TensorArrayStack/TensorArrayGatherV3:0"
        assert (documented.tensors.name, tuple(documented.tensors.shape)) == (name, (None, 224, 224, 3))
        name = "brainwave_target_node_1_Version_0.1:0"
        assert (documented.features.name, tuple(documented.features.shape)) == (name, (None, 1, 1, 2048))
        assert documented.output.name == "classifier/resnet_v1_50/predictions/Softmax:0"
        assert documented.second.name == OUTPUT
        assert tuple(documented.output.shape) == (None, 1000)

    def test_weights_are_variables_under_the_old_names(self, documented, v1):
        with documented.graph.as_default():
            names = {variable.op.name for variable in v1.global_variables()}
            assert not v1.trainable_variables()
        assert len(names) == 53 * 5
        unit = "resnet_v1_50/block2/unit_1/bottleneck_v1"
        assert {
            "resnet_v1_50/conv1/weights",
            f"{unit}/conv3/BatchNorm/moving_variance",
            f"{unit}/shortcut/weights",
        } < names

    def test_the_model_says_what_the_original_said(self, documented):
        model = documented.model
        assert (model.version, model.model_version, model.model_ref) == ("1.1.2", "1.1.2", "resnet50")
        assert model.model_path.endswith("/msfprn50/1.1.2")
        assert model.get_input_dims() == [None, 224, 224, 3]
        assert model.get_output_dims(0) == [None, 1, 1, 2048]
        assert model.input_tensor_list == [documented.tensors.name]
        assert model.output_tensor_list == [documented.features.name]

    def test_one_graph_holds_one_featurizer(self, documented):
        with documented.graph.as_default(), pytest.raises(GraphError, match="must hold one featurizer"):
            documented.model.import_graph_def(documented.tensors)

    def test_tensorflow_sees_the_snow_leopard(self, documented):
        labels = zoo.network("resnet50").labels()
        assert "snow leopard" in labels[documented.pictured[0].argmax()]


class TestReadBack:
    def test_the_image_stage_is_that_of_the_original(self, network):
        (port,) = network.interface.inputs
        assert (port.name, port.value, port.batch) == ("Placeholder:0", "images", None)
        rule = zoo.azureml_preprocessing()
        assert {**vars(port.image), "name": ""} == {**vars(rule), "name": ""}
        (port,) = network.interface.outputs
        assert port.name == OUTPUT
        assert {"output_alias", "classifier/resnet_v1_50/predictions/Softmax:0"} < set(port.aliases)

    def test_photographs_come_out_a_few_steps_apart(self, documented):
        difference = np.abs(documented.session_pixels - documented.pixels)
        assert 0 < difference.mean() < 2.5 and difference.max() < 40  # of 255

    def test_probabilities_are_tensorflows(self, documented, network):
        for pixels, expected in zip(documented.pixels, documented.expected, strict=True):
            found = evaluate(network, {"images": pixels})[network.outputs[0]]
            assert np.abs(found - expected).max() < 1e-5

    def test_the_difference_in_preprocessing_changes_nothing(self, documented):
        """The network as torchvision trained it, fed with the same pixels normalised its way."""
        plain = zoo.load("resnet50")
        rule = plain.interface.inputs[0].image
        values = documented.pixels[0].astype(np.float64) + zoo.azureml_preprocessing().mean
        tensor = ((values / 255 - rule.mean) / rule.std).astype(np.float32)
        found = evaluate(plain, {"images": tensor})[plain.outputs[0]]
        assert np.abs(found - documented.expected[0]).max() < 1e-5

    def test_quantised_to_bfp8_and_served_the_snow_leopard_stays_first(self, documented, network, tmp_path):
        assert isinstance(network.layers[0], Affine)
        artifact = gatecast.compile(quantize(network, "bfp8"), "software")
        artifact.save(tmp_path / "resnet50.gcast")
        with gatecast.open(tmp_path / "resnet50.gcast") as session:
            (found,) = session.run({"Placeholder:0": documented.data}).values()
        assert found.argmax(axis=1).tolist() == documented.pictured.argmax(axis=1).tolist()
        assert "snow leopard" in zoo.network("resnet50").labels()[found[0].argmax()]


class TestWeightsOfOnesOwn:
    def test_saved_weights_are_restored(self, documented, models, v1):
        with models.tf.Graph().as_default(), v1.Session() as session:
            folder = str(documented.saved.parent / "weights")
            model = models.QuantizedResnet50("~", custom_weights_directory=folder)
            features = model.import_graph_def()
            assert features.graph.get_tensor_by_name("InputImage:0").shape.rank == 4
            assert len(v1.trainable_variables()) == 53 * 5
            model.restore_weights(session)
            variable = next(v for v in v1.global_variables() if v.op.name == "resnet_v1_50/conv1/weights")
            found = session.run(variable)
        graph = zoo.original_graphs("Resnet50").features
        assert np.array_equal(found, graph.layer("conv1").weights.transpose(1, 2, 3, 0))

    def test_a_folder_without_a_checkpoint_is_named(self, documented, models, v1, tmp_path):
        with models.tf.Graph().as_default(), v1.Session() as session:
            model = models.QuantizedResnet50("~", custom_weights_directory=str(tmp_path))
            with pytest.raises(GraphError, match="QuantizedResnet50 must be imported first"):
                model.restore_weights(session)
            model.import_graph_def()
            with pytest.raises(FileError, match="must hold a checkpoint; it holds none"):
                model.restore_weights(session)


class TestMistakes:
    @pytest.mark.parametrize("name", ["Resnet152", "QuantizedVgg16", "Densenet121", "QuantizedSsdVgg"])
    def test_networks_that_are_not_known_say_so(self, models, name):
        with pytest.raises(models.DoesNotExistError, match=rf"\(Resnet50, QuantizedResnet50\), not {name}"):
            getattr(models, name)("~/models")
        assert issubclass(models.DoesNotExistError, ValueError)

    def test_another_order_of_channels(self, models, v1):
        with models.tf.Graph().as_default(), pytest.raises(ValueError) as caught:
            models.preprocess_array(v1.placeholder(models.tf.string), order="GRB")
        assert str(caught.value) == "can only construct in RGB or BGR order."

    def test_eager_use_is_refused(self, documented):
        with pytest.raises(GraphError, match="must be imported into a graph, not run eagerly"):
            documented.model.import_graph_def(documented.pixels)
