"""A network for another preprocessing's tensor: the same answers for the same pixels, at the borders too."""

import numpy as np
import pytest

from gatecast import graph as op
from gatecast.errors import GraphError
from gatecast.graph import Graph, Input, InputPort, Interface, OutputPort, Preprocessing, evaluate
from gatecast.zoo import azureml_preprocessing, with_preprocessing

SIDE = 12
TORCH = Preprocessing(
    name="torch", height=SIDE, width=SIDE, divide=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
MEANS = Preprocessing(name="means", height=SIDE, width=SIDE, mean=(123.68, 116.779, 103.939))


def network(rule=TORCH):
    weights = np.random.default_rng(3).normal(0, 0.2, (4, 3, 3, 3)).astype(np.float32)
    layers = (
        op.Convolution(name="conv", inputs=("images",), weights=weights, pads=(1, 1, 1, 1), stride=(2, 2)),
        op.Activation(name="relu", inputs=("conv",), kind="relu"),
    )
    interface = Interface(
        inputs=(InputPort(name="images", value="images", layout="NHWC", image=rule),),
        outputs=(OutputPort(name="relu", value="relu", layout="NHWC"),),
    )
    return Graph("net", (Input("images", (SIDE, SIDE, 3)),), layers, ("relu",), interface)


def tensor(pixels, rule):
    """What a preprocessing makes of pixels, in float64."""
    mean, std = np.array(rule.mean or (0,) * 3), np.array(rule.std or (1,) * 3)
    return (((pixels / rule.divide - mean) / std) * rule.scale).astype(np.float32)


@pytest.mark.parametrize(
    "rule",
    [
        MEANS,
        Preprocessing(name="scaled", height=SIDE, width=SIDE, mean=(1.0, 2.0, 3.0), scale=0.017),
        Preprocessing(name="bytes", height=SIDE, width=SIDE),
        TORCH,
    ],
)
def test_the_same_pixels_give_the_same_answers_up_to_the_edge(rule):
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3))
    expected = evaluate(network(), {"images": tensor(pixels, TORCH)})["relu"]
    changed = with_preprocessing(network(), rule)
    found = evaluate(changed, {"images": tensor(pixels, rule)})["relu"]
    # 27 products of values up to 3, weights up to 1: float32 rounds each at 1e-7.
    assert np.abs(found - expected).max() < 2e-5
    assert changed.interface.inputs[0].image == rule


def test_only_the_stem_changes_and_an_offset_comes_before_it():
    changed = with_preprocessing(network(), MEANS)
    assert [layer.name for layer in changed.layers] == ["offset", "conv", "relu"]
    assert changed.layer("conv").inputs == ("offset",)
    assert changed.layer("relu") is not None
    shift = changed.layer("offset").shift  # means of the one minus those of the other, of 255
    assert np.allclose(shift, [123.68 - 123.675, 116.779 - 116.28, 103.939 - 103.53], atol=1e-5)


def test_a_network_without_an_image_stage_or_of_other_channels_is_refused():
    plain = network(None)
    with pytest.raises(GraphError, match="Network net must have one input for pictures in RGB"):
        with_preprocessing(plain, MEANS)
    with pytest.raises(GraphError, match="pictures in BGR"):
        with_preprocessing(network(), azureml_preprocessing("BGR"))


def test_an_input_that_two_layers_read_is_refused():
    graph = network()
    other = op.Activation(name="other", inputs=("images",), kind="relu")
    with pytest.raises(GraphError, match="Input images of net must be read by one convolution"):
        with_preprocessing(graph.with_layers((*graph.layers, other)), MEANS)
