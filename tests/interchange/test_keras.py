"""Networks as tf2onnx writes them for Keras: NHWC outside, NCHW inside, transposes between.

Keras computes the expected values. Sums of a few hundred float32 terms of size 1 in another order: 1e-4.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.interchange.runtimes import difference, evaluated

from gatecast import graph as op
from gatecast.interchange import from_onnx, load, to_onnx
from gatecast.quantization import quantize

pytestmark = pytest.mark.slow

NETWORKS = ("residual", "sequential", "excite")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    script = Path(__file__).parent / "keras_networks.py"
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_computes_what_keras_does(folder, name):
    graph = load(folder / f"{name}.onnx")
    data = np.load(folder / f"{name}.npz")
    port = graph.interface.inputs[0]
    for x, y in zip(data["x"], data["y"], strict=True):
        (found,) = evaluated(graph, {port.name: x[None]}).values()
        np.testing.assert_allclose(found[0], y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_transpose_is_left_and_ports_stay_nhwc(folder, name):
    graph = load(folder / f"{name}.onnx")
    kinds = {type(layer) for layer in graph.layers}
    assert not kinds & {op.Transpose, op.Reshape, op.Pad}
    port = graph.interface.inputs[0]
    assert (port.name, port.layout, port.batch) == ("image", "NHWC", None)
    layouts = [port.layout for port in graph.interface.outputs]
    assert layouts == (["NHWC"] if name == "excite" else ["as_is"])


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_written_again_reads_as_the_same_graph(folder, name):
    for graph in (load(folder / f"{name}.onnx"), quantize(load(folder / f"{name}.onnx"), "bfp8")):
        model = to_onnx(graph)
        onnx.checker.check_model(model, full_check=True)
        assert difference(graph, from_onnx(model)) is None


def test_channel_last_idioms_become_single_layers(folder):
    kinds = [type(layer).__name__ for layer in load(folder / "residual.onnx").layers]
    assert kinds.count("MatMul") == kinds.count("Softmax") == kinds.count("GlobalAveragePool") == 1
    graph = load(folder / "excite.onnx")
    activations = [layer.kind for layer in graph.layers if isinstance(layer, op.Activation)]
    assert activations == ["hard_swish", "relu", "hard_sigmoid"]
    assert any(isinstance(layer, op.L2Norm) for layer in graph.layers)
