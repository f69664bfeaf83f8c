"""The real ResNet-50 as exported: read again bit for bit, and the same answers in stock runtimes.

Its sums are exact in float32 in nearly any order, so whole networks agree far beyond the 34 dB of quantising.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from tests.interchange.runtimes import LEVELS, difference, onnx_runtime, open_vino

from gatecast import zoo
from gatecast.graph import Graph, Interface, OutputPort
from gatecast.interchange import export, load, to_onnx
from gatecast.quantization import quantize

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network():
    if "GATECAST_TEST_DATA" not in os.environ:
        pytest.skip("GATECAST_TEST_DATA is not set: it holds the weights of ResNet-50")
    graph = quantize(zoo.load("resnet50"), "bfp8")
    ports = Interface(inputs=graph.interface.inputs, outputs=(OutputPort(name="scores", value="fc"),))
    return Graph(graph.name, graph.inputs, graph.layers, ("fc",), ports)


@pytest.fixture(scope="module")
def picture(network):
    rng = np.random.default_rng(0)
    smooth = rng.standard_normal((8, 8, 3)).repeat(28, axis=0).repeat(28, axis=1)
    return {network.interface.inputs[0].name: smooth.astype(np.float32)[None]}


def test_it_comes_back_bit_for_bit_at_8_25_bits_a_weight(network, tmp_path):
    export(network, tmp_path / "a.onnx")
    assert difference(network, load(tmp_path / "a.onnx")) is None
    size = Path(tmp_path / "a.onnx").stat().st_size
    assert size < 25_557_032 * 8.25 / 8 * 1.01


def test_runtimes_with_default_options_agree(network, picture):
    expected = onnx_runtime(to_onnx(network), picture, "none")["scores"]
    found = [onnx_runtime(to_onnx(network), picture, level)["scores"] for level in LEVELS]
    found.append(open_vino(to_onnx(network, inline=True), picture)["scores"])
    for scores in found:
        assert scores.argmax() == expected.argmax()
        noise = ((scores - expected) ** 2).sum()
        assert noise <= (expected**2).sum() * 1e-12  # 120 dB
