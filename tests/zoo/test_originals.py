"""The networks of the original API: facts, names, and the one that can be built."""

import numpy as np
import pytest

from gatecast.errors import DownloadError, NotFoundError
from gatecast.graph import GlobalAveragePool, Softmax, evaluate
from gatecast.zoo import FEATURES, ORIGINALS, original, original_graphs, original_names, originals


def test_there_are_ten_classes():
    assert len(ORIGINALS) == 10
    assert {name for name, known in ORIGINALS.items() if known.network} == {"Resnet50", "QuantizedResnet50"}
    assert (ORIGINALS["QuantizedResnet50"].folder, ORIGINALS["QuantizedResnet50"].version) == (
        "msfprn50",
        "1.1.2",
    )
    assert (ORIGINALS["Resnet152"].folder, ORIGINALS["Resnet152"].version) == ("rn152", "1.1.2")
    assert ORIGINALS["SsdVgg"].input_dims == [None, 300, 300, 3]
    assert ORIGINALS["Densenet121"].output_dims == [None, 1, 1, 1024]


@pytest.mark.parametrize("name", ["Vgg16", "QuantizedResnet152", "Resnet51"])
def test_those_that_cannot_be_built_say_which_can(name):
    with pytest.raises(NotFoundError) as caught:
        original(name)
    expected = f"Model must be one whose network is known here (Resnet50, QuantizedResnet50), not {name}"
    assert str(caught.value) == expected


def test_layers_get_the_names_that_tf_slim_gives():
    name_of = original_names("resnet_v1_50")
    assert {
        layer: name_of(layer) for layer in ("offset", "conv1", "bn1", "relu", "maxpool", "avgpool", "fc")
    } == {
        "offset": "resnet_v1_50/offset",
        "conv1": "resnet_v1_50/conv1",
        "bn1": "resnet_v1_50/conv1/BatchNorm",
        "relu": "resnet_v1_50/conv1/Relu",
        "maxpool": "resnet_v1_50/pool1/MaxPool",
        "avgpool": FEATURES,
        "fc": "resnet_v1_50/logits",
    }
    unit = "resnet_v1_50/block3/unit_6/bottleneck_v1"
    assert name_of("layer3.5.conv2") == f"{unit}/conv2"
    assert name_of("layer3.5.bn2") == f"{unit}/conv2/BatchNorm"
    assert name_of("layer3.5.relu1") == f"{unit}/conv1/Relu"
    assert name_of("layer3.5.add") == f"{unit}/add"
    assert name_of("layer3.5.relu") == f"{unit}/Relu"
    assert name_of("layer4.0.downsample.0") == "resnet_v1_50/block4/unit_1/bottleneck_v1/shortcut"
    assert name_of("layer4.0.downsample.1") == "resnet_v1_50/block4/unit_1/bottleneck_v1/shortcut/BatchNorm"
    assert name_of("probabilities") == "resnet_v1_50/predictions/Softmax"


def test_without_weights_seeded_ones_stand_in_and_it_is_said(monkeypatch):
    def unreachable(name):
        raise DownloadError("nothing there", hint="(1) Put them into a folder.")

    monkeypatch.setattr(originals, "find_weights", unreachable)
    built = original_graphs("QuantizedResnet50")
    assert built.notice == (
        "No weights of resnet50 were found: random ones from a seed stand in, and answers mean nothing. "
        "(1) Put them into a folder."
    )
    assert isinstance(built.features.layers[-1], GlobalAveragePool)
    assert built.features.shapes[built.features.outputs[0]] == (1, 1, 2048)
    assert [type(layer).__name__ for layer in built.classifier.layers] == ["MatMul", "Softmax"]
    assert isinstance(built.classifier.layers[-1], Softmax)
    (name,) = (value.name for value in built.classifier.inputs)
    found = evaluate(built.classifier, {name: np.zeros((1, 1, 2048), np.float32)})[
        built.classifier.outputs[0]
    ]
    assert found.shape == (1000,) and np.isclose(found.sum(), 1)
