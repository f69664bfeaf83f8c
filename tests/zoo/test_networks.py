"""The known networks: their graphs, their weights, and what is refused."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper
from torch.nn import functional

from gatecast import zoo
from gatecast.errors import DownloadError, FileError, NotFoundError
from gatecast.graph import BatchNorm, Convolution, Elementwise, MatMul, evaluate, evaluate_values
from gatecast.runtime.images import decode_image

NAMES = ("fashion", "resnet50", "resnet50-v1")


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path, monkeypatch):
    """Neither this machine's cache nor its settings count, unless a test sets them."""
    for name in ("GATECAST_WEIGHTS", "GATECAST_TEST_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GATECAST_CACHE", str(tmp_path / "cache"))


TEST_DATA = os.environ.get("GATECAST_TEST_DATA")


@pytest.fixture
def test_data(monkeypatch):
    if not TEST_DATA:
        pytest.skip("GATECAST_TEST_DATA is not set: no weights of ResNet-50 at hand")
    monkeypatch.setenv("GATECAST_TEST_DATA", TEST_DATA)
    return Path(TEST_DATA)


def torch_scores(arrays, x, *, stem_stride, stem_pool, stages, stride_on):
    """Run a residual network of these arrays in PyTorch, written anew; `x` is NCHW."""
    t = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def norm(name, y):
        mean, var = t[name + ".running_mean"], t[name + ".running_var"]
        return functional.batch_norm(y, mean, var, t[name + ".weight"], t[name + ".bias"])

    def convolve(name, y, stride=1):
        weight = t[name + ".weight"]
        return functional.conv2d(y, weight, stride=stride, padding=weight.shape[-1] // 2)

    y = functional.relu(norm("bn1", convolve("conv1", x, stem_stride)))
    if stem_pool:
        y = functional.max_pool2d(y, 3, 2, 1)
    for number, (blocks, first_stride) in enumerate(stages, 1):
        for block in range(blocks):
            name, stride = f"layer{number}.{block}", first_stride if block == 0 else 1
            bottleneck = f"{name}.conv3.weight" in t
            second = bottleneck and stride_on == "3x3"
            z = functional.relu(norm(f"{name}.bn1", convolve(f"{name}.conv1", y, 1 if second else stride)))
            z = norm(f"{name}.bn2", convolve(f"{name}.conv2", z, stride if second else 1))
            if bottleneck:
                z = norm(f"{name}.bn3", convolve(f"{name}.conv3", functional.relu(z)))
            if f"{name}.downsample.0.weight" in t:
                y = norm(f"{name}.downsample.1", convolve(f"{name}.downsample.0", y, stride))
            y = functional.relu(z + y)
    return functional.linear(y.mean((2, 3)), t["fc.weight"], t["fc.bias"])


RESNET50 = {"stem_stride": 2, "stem_pool": True, "stages": [(3, 1), (4, 2), (6, 2), (3, 2)]}
SHAPES = {
    "fashion": {"stem_stride": 1, "stem_pool": False, "stages": [(1, 2), (1, 2), (1, 1)], "stride_on": "3x3"},
    "resnet50": {**RESNET50, "stride_on": "3x3"},
    "resnet50-v1": {**RESNET50, "stride_on": "1x1"},
}


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_computes_what_torch_does_with_the_same_arrays(name):
    known = zoo.network(name)
    arrays = known.random_arrays(seed=4)
    graph = known.build(arrays)
    x = np.random.default_rng(5).normal(size=graph.inputs[0].shape).astype(np.float32)
    values = evaluate_values(graph, {"images": x})
    with torch.no_grad():
        scores = torch_scores(arrays, torch.from_numpy(x.transpose(2, 0, 1)[None].copy()), **SHAPES[name])
    scores = scores.numpy()[0]
    scale = np.abs(scores).max()
    assert np.abs(values["fc"] - scores).max() < 1e-4 * scale
    powers = np.exp(values["fc"] - values["fc"].max())
    assert np.allclose(values["probabilities"], powers / powers.sum())


@pytest.mark.parametrize("name", NAMES)
def test_the_interface_has_pictures_in_and_labelled_probabilities_out(name):
    known = zoo.network(name)
    graph = known.build(known.random_arrays())
    assert graph.name == name
    (picture,), (result,) = graph.signature.inputs, graph.signature.outputs
    assert (picture.name, picture.dtype, picture.shape) == ("images", "string", (-1,))
    classes = len(graph.interface.labels)
    assert (result.name, result.dtype, result.shape) == ("probabilities", "float32", (-1, classes))
    assert graph.interface.inputs[0].image == zoo.preprocessing(known.preprocessings[0])


def test_resnet50_has_the_published_size():
    """torchvision's ResNet50_Weights say 25 557 032 parameters; running means and variances come on top."""
    arrays = zoo.network("resnet50").random_arrays()
    learnt = {name: a for name, a in arrays.items() if "running" not in name}
    assert sum(array.size for array in learnt.values()) == 25_557_032
    graph = zoo.network("resnet50").build(arrays)
    kinds = [type(layer) for layer in graph.layers]
    assert (kinds.count(Convolution), kinds.count(BatchNorm), kinds.count(Elementwise)) == (53, 53, 16)
    assert graph.shapes["layer4.2.relu"] == (7, 7, 2048)
    assert sum(macs(graph)) == 4_089_184_256


def macs(graph):
    for layer in graph.layers:
        if isinstance(layer, Convolution | MatMul):
            rows, columns = (
                (*graph.shapes[layer.name], 1, 1)[:2] if isinstance(layer, Convolution) else (1, 1)
            )
            yield rows * columns * layer.weights.size


def test_versions_1_and_1_5_differ_only_in_where_blocks_stride():
    v1, v15 = (
        zoo.network(name).build(zoo.network(name).random_arrays()) for name in ("resnet50-v1", "resnet50")
    )
    differ = [a.name for a, b in zip(v1.layers, v15.layers, strict=True) if _stride(a) != _stride(b)]
    expected = [f"layer{n}.0.conv{c}" for n in (2, 3, 4) for c in (1, 2)]
    assert differ == expected
    assert v1.layer("layer2.0.conv1").stride == (2, 2)
    assert v15.layer("layer2.0.conv2").stride == (2, 2)


def _stride(layer):
    return getattr(layer, "stride", None)


class TestFashion:
    """The carried network."""

    def test_it_is_small_and_float32(self):
        weights = zoo.find_weights("fashion")
        assert (weights.place, weights.test_only) == ("package", False)
        assert weights.path.stat().st_size < 400_000
        with np.load(weights.path, allow_pickle=False) as arrays:
            assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.float32)}
            assert sum(arrays[name].size for name in arrays.files) == 92_842 <= 100_000

    def test_the_file_is_what_writing_its_arrays_in_order_gives(self, tmp_path):
        path = zoo.find_weights("fashion").path
        with np.load(path) as arrays:
            assert arrays.files == sorted(arrays.files)
            np.savez(tmp_path / "again.npz", **arrays)
        assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()

    def test_its_layers_are_those_an_accelerator_must_know(self):
        graph = zoo.load("fashion")
        kernels = {(layer.kernel, layer.stride) for layer in graph.layers if isinstance(layer, Convolution)}
        assert kernels == {((3, 3), (1, 1)), ((3, 3), (2, 2)), ((1, 1), (1, 1)), ((1, 1), (2, 2))}
        assert sum(isinstance(layer, Elementwise) for layer in graph.layers) == 3
        assert sum(macs(graph)) == 7_501_952

    def test_it_knows_the_carried_pictures(self):
        graph = zoo.load("fashion")
        rule = graph.interface.inputs[0].image
        for sample in zoo.samples("fashion"):
            scores = evaluate(graph, {"images": decode_image(sample.data, rule)})["probabilities"]
            assert int(scores.argmax()) == sample.index
            assert graph.interface.labels[sample.index] == sample.name

    def test_they_need_no_network_and_no_framework(self):
        program = (
            "import sys; from gatecast import zoo; zoo.load('fashion'); zoo.samples('fashion');"
            "assert not {'torch', 'tensorflow', 'onnx'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


class TestResNet50:
    def test_the_snow_leopard_is_a_snow_leopard(self, test_data):
        weights = zoo.find_weights("resnet50")
        assert (weights.place, weights.test_only) == ("test data", True)
        assert weights.notice.startswith("test only, non-commercial: weights: ")
        assert weights.notice.endswith("Uber Non-Commercial License (UATC LLC): tests only, non-commercial")
        graph = zoo.load("resnet50", weights=weights)
        (sample,) = zoo.samples("resnet50")
        picture = decode_image(sample.data, graph.interface.inputs[0].image)
        scores = evaluate(graph, {"images": picture})["probabilities"]
        assert int(scores.argmax()) == sample.index == 289
        assert abs(scores.max() - 0.868) < 0.001
        assert graph.interface.labels[289] == sample.name == "snow leopard, ounce, Panthera uncia"

    def test_a_file_in_the_named_folder_is_taken_only_as_published(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GATECAST_WEIGHTS", str(tmp_path))
        (tmp_path / "resnet50-0676ba61.pth").write_bytes(b"not these")
        with pytest.raises(FileError, match=r"resnet50-0676ba61.pth must have the SHA-256 0676ba61, not "):
            zoo.load("resnet50")

    def test_a_preprocessing_can_be_chosen(self, tmp_path):
        known = zoo.network("resnet50")
        np.savez(tmp_path / "w.npz", **known.random_arrays())
        graph = zoo.load("resnet50", weights=tmp_path / "w.npz", preprocess="imagenet-azureml")
        assert graph.interface.inputs[0].image == zoo.preprocessing("imagenet-azureml")

    def test_each_source_names_a_preprocessing_that_exists(self):
        for name in NAMES:
            for source in zoo.network(name).sources:
                assert source.preprocessing in zoo.network(name).preprocessings

    def test_no_address_is_claimed_to_have_been_reached(self):
        sources = [source for name in NAMES for source in zoo.network(name).sources]
        assert not any(source.reached for source in sources)
        assert all(source.address.startswith("https://") != source.test_only for source in sources)
        assert all(source.sha256 and source.licence and source.publisher for source in sources)


class TestOnnxWeights:
    """A file as GluonCV exported it: NCHW input `data`, scores without a softmax, any layers between."""

    def file(self, path, classes=1000, softmax=False):
        random = np.random.default_rng(3)
        arrays = {
            "kernel": random.normal(size=(8, 3, 32, 32)).astype(np.float32) / 32,
            "dense": random.normal(size=(classes, 8)).astype(np.float32),
            "bias": random.normal(size=classes).astype(np.float32),
        }
        nodes = [
            helper.make_node("Conv", ["data", "kernel"], ["maps"], strides=[32, 32]),
            helper.make_node("GlobalAveragePool", ["maps"], ["means"]),
            helper.make_node("Flatten", ["means"], ["flat"]),
            helper.make_node("Gemm", ["flat", "dense", "bias"], ["scores"], transB=1),
            helper.make_node("Softmax", ["scores"], ["chances"]),
        ]
        graph = helper.make_graph(
            nodes if softmax else nodes[:-1],
            "resnet",
            [helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["N", 3, 224, 224])],
            [
                helper.make_tensor_value_info(
                    "chances" if softmax else "scores", onnx.TensorProto.FLOAT, ["N", classes]
                )
            ],
            [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
        return path

    @pytest.mark.parametrize("softmax", [False, True])
    def test_it_gets_the_ports_of_all_known_networks(self, tmp_path, softmax):
        path = self.file(tmp_path / "resnet50-v1-12.onnx", softmax=softmax)
        graph = zoo.load("resnet50-v1", weights=path)
        assert graph.name == "resnet50-v1"
        (port,), (result,) = graph.interface.inputs, graph.interface.outputs
        assert (port.name, port.layout, port.batch) == ("images", "NHWC", None)
        assert port.image == zoo.preprocessing("imagenet-torchvision")
        assert result.name == "probabilities"
        assert graph.interface.labels == zoo.imagenet_labels()
        x = np.random.default_rng(5).normal(size=(224, 224, 3)).astype(np.float32)
        (found,) = evaluate(graph, {port.value: x}).values()
        chances = ort.InferenceSession(self.file(tmp_path / "b.onnx", softmax=True))
        (expected,) = chances.run(None, {"data": x.transpose(2, 0, 1)[None]})
        assert np.abs(found - expected[0]).max() < 1e-5

    def test_another_networks_file_is_refused(self, tmp_path):
        path = self.file(tmp_path / "a.onnx", classes=10)
        with pytest.raises(FileError) as caught:
            zoo.load("resnet50-v1", weights=path)
        assert str(caught.value) == (
            f"{path} must read (224, 224, 3) and give 1000 scores to be resnet50-v1, "
            "not (224, 224, 3) and (10,)"
        )


@pytest.mark.parametrize("name", NAMES)
def test_wrong_arrays_are_all_listed(name):
    known = zoo.network(name)
    arrays = known.random_arrays()
    arrays["extra"] = arrays.pop("bn1.bias")
    arrays["fc.bias"] = np.zeros(3, np.float32)
    arrays["conv1.weight"][0, 0, 0, 0] = np.nan
    with pytest.raises(FileError) as caught:
        known.build(arrays)
    classes = len(known.labels())
    assert str(caught.value) == (
        f"Weights must be those of {name}, but conv1.weight has values that are not finite, "
        f"bn1.bias is missing, fc.bias has shape (3,), not ({classes},), extra is too many"
    )


def test_many_faults_are_counted():
    with pytest.raises(FileError, match="and 47 more"):
        zoo.network("fashion").build({})


def test_unknown_names_list_the_known_ones():
    with pytest.raises(NotFoundError) as caught:
        zoo.load("resnet51")
    assert str(caught.value) == "Network must be one of fashion, resnet50, resnet50-v1, not 'resnet51'"
    with pytest.raises(NotFoundError, match="Preprocessing must be one of fashion, imagenet-torchvision, "):
        zoo.load("fashion", preprocess="none")


class TestPreprocessings:
    def test_each_is_known_by_its_name(self):
        assert all(zoo.preprocessing(name).name == name for name in zoo.PREPROCESSINGS)

    def test_the_originals_arguments_are_understood(self):
        rule = zoo.azureml_preprocessing(order="BGR", scaling_factor=0.017)
        assert (rule.channels, rule.scale, rule.mean) == ("BGR", 0.017, (103.939, 116.779, 123.68))
        assert zoo.azureml_preprocessing() == zoo.preprocessing("imagenet-azureml")

    @pytest.mark.parametrize(
        ("height", "width", "expected"), [(300, 400, 256), (128, 64, 128), (224, 224, 224)]
    )
    def test_the_originals_crop_is_square_whatever_the_width(self, height, width, expected):
        rule = zoo.azureml_preprocessing(output_height=height, output_width=width)
        assert (rule.height, rule.width, rule.short_side) == (expected, expected, 256)

    def test_without_keeping_the_aspect_the_whole_picture_is_resized(self):
        rule = zoo.azureml_preprocessing(output_height=300, output_width=400, preserve_aspect_ratio=False)
        assert (rule.height, rule.width, rule.short_side) == (300, 400, None)

    def test_another_order_is_refused(self):
        with pytest.raises(NotFoundError, match="Order of the channels must be RGB or BGR, not 'GBR'"):
            zoo.azureml_preprocessing(order="GBR")


class TestLabels:
    def test_imagenet_has_a_thousand_in_the_order_of_the_scores(self):
        labels = zoo.imagenet_labels()
        assert len(labels) == 1000
        assert labels[0] == "tench, Tinca tinca"
        assert labels[999] == "toilet tissue, toilet paper, bathroom tissue"
        assert all(label == label.strip() for label in labels)

    def test_licences_stand_beside_the_data(self):
        data = Path(zoo.__file__).parent / "data"
        assert "Copyright (c) 2015 Lasagne" in (data / "imagenet_labels.LICENCE.md").read_text()
        assert "Copyright (c) 2017 Zalando SE" in (data / "fashion" / "ATTRIBUTION.md").read_text()


class TestSamples:
    def test_fashion_has_the_first_twelve_of_the_test_set(self):
        found = zoo.samples("fashion")
        assert [sample.index for sample in found] == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5]
        assert [sample.file for sample in found] == [f"test-{i:02}.png" for i in range(12)]
        assert all(sample.data.startswith(b"\x89PNG") for sample in found)

    def test_they_are_written_with_labels_and_credits(self, tmp_path):
        found = zoo.write_samples("fashion", tmp_path / "deep" / "here")
        folder = tmp_path / "deep" / "here"
        with (folder / "labels.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows == [{"file": s.file, "index": str(s.index), "name": s.name} for s in found]
        assert all((folder / sample.file).read_bytes() == sample.data for sample in found)
        assert (
            "test-00.png: Fashion-MNIST test set; MIT, (c) 2017 Zalando SE"
            in (folder / "ATTRIBUTION.txt").read_text()
        )

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(FileError, match=r"Folder .*file must be writable: File exists"):
            zoo.write_samples("fashion", tmp_path / "file")

    def test_imagenets_is_the_snow_leopard_with_its_licence(self, test_data):
        (sample,) = zoo.samples("resnet50-v1")
        assert (sample.file, sample.index) == ("snowleopardgaze.jpg", 289)
        assert (
            sample.licence == "Azure-Samples/aml-hardware-accelerated-models; MIT, (c) Microsoft Corporation"
        )

    def test_offline_the_picture_has_the_three_ways_out_too(self, monkeypatch):
        monkeypatch.setattr(sys.modules["gatecast.zoo.samples"], "SNOW_LEOPARD", _unreachable())
        with pytest.raises(DownloadError, match="The sample picture must be at hand or downloadable"):
            zoo.samples("resnet50", limits=zoo.Limits(connect_s=0.5))


def _unreachable():
    source = zoo.Source(file="a.jpg", licence="", publisher="", sha256="00")
    return replace(source, address="https://127.0.0.1:9/a.jpg")
