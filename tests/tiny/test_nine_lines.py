"""The nine lines of the design, on the architecture `tiny`, whose memory makes the compiler tile."""

from pathlib import Path

import numpy as np
import pytest

import gatecast
from gatecast import zoo
from gatecast.client import PredictionClient
from gatecast.graph import evaluate
from gatecast.runtime import decode_image, open_session
from gatecast.serving import ModelSource, Server, ServerOptions

SAMPLES = zoo.samples("fashion")[:2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the lines were run; they read and leave files there."""
    folder = tmp_path_factory.mktemp("nine-lines")
    gatecast.export(zoo.load("fashion"), folder / "fashion.onnx")

    graph = gatecast.load(folder / "fashion.onnx")
    graph = gatecast.quantize(graph, "bfp8")
    gatecast.export(graph, folder / "fashion.bfp8.onnx")
    model = gatecast.compile(graph, target="tiny")
    model.save(folder / "fashion.gcast")
    return folder


@pytest.fixture(scope="module")
def scores(folder):
    session = gatecast.open(folder / "fashion.gcast", device="reference")
    return session.run({"images": [sample.data for sample in SAMPLES]})["probabilities"]


def test_the_answers_are_right(scores):
    assert scores.shape == (2, 10)
    assert scores.argmax(axis=1).tolist() == [sample.index for sample in SAMPLES]
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-6)


def test_layers_are_tiled(folder):
    with open_session(folder / "fashion.gcast") as session:
        assert session.artifact.target == "tiny"
        assert max(layer.tiles for layer in session.artifact.layers) > 1


def test_the_tiles_give_the_bytes_of_one_tile_a_layer(folder, scores):
    whole = gatecast.compile(gatecast.load(folder / "fashion.bfp8.onnx"), target="software")
    with gatecast.open(whole) as session:
        again = session.run({"images": [sample.data for sample in SAMPLES]})["probabilities"]
    assert again.tobytes() == scores.tobytes()


def test_the_quantised_graph_says_the_same(folder, scores):
    """Softmax is the host's, so the evaluator's may differ in the last bits; what it reads may not."""
    graph = gatecast.load(folder / "fashion.bfp8.onnx")
    (port,) = graph.interface.inputs
    for sample, row in zip(SAMPLES, scores, strict=True):
        values = evaluate(graph, {port.value: decode_image(sample.data, port.image)})
        assert np.allclose(values[graph.outputs[0]], row, rtol=1e-5, atol=1e-7)


def test_a_server_gives_the_same_bytes(folder, scores):
    source = ModelSource("default", Path(folder / "fashion.gcast"))
    with Server([source], gatecast.open, ServerOptions(port=0, rest_port=0)) as server:
        with PredictionClient("127.0.0.1", server.port) as client:
            answer = client.predict({"images": [sample.data for sample in SAMPLES]})
            assert client.labels() == zoo.FASHION_LABELS
    assert answer["probabilities"].tobytes() == scores.tobytes()


NO_VERB = "run"


def test_the_root_has_only_the_verbs():
    assert {"compile", "export", "load", "open", "quantize"} <= set(dir(gatecast))
    with pytest.raises(AttributeError, match="^module 'gatecast' has no attribute 'run'$"):
        getattr(gatecast, NO_VERB)
