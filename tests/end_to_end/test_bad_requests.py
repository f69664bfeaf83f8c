"""Requests that a real server must refuse, each with its code and one clear text; it goes on after each."""

import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest

import gatecast
from gatecast import zoo
from gatecast.client import CallError, PredictionClient
from gatecast.errors import RequestError
from gatecast.protocol import PREDICT, encode_tensor
from gatecast.serving import Limits, ModelSource, Server, ServerOptions

SAMPLE = zoo.samples("fashion")[0]
LIMIT = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "fashion.gcast"
    gatecast.compile(gatecast.quantize(zoo.load("fashion"), "bfp8")).save(path)
    options = ServerOptions(port=0, rest_port=0, limits=Limits(request_bytes=LIMIT))
    with Server([ModelSource("fashion", path)], gatecast.open, options) as server:
        yield server


@pytest.fixture(autouse=True)
def goes_on(server):
    """After each refusal the server answers as before."""
    yield
    with PredictionClient("127.0.0.1", server.port) as client:
        (scores,) = client.predict({"images": [SAMPLE.data]}).values()
    assert scores.argmax() == SAMPLE.index


def refusal(server, inputs, outputs=(), model="fashion"):
    """Code and text with which the server refuses a prediction."""
    request = PREDICT.request(output_filter=outputs)
    request.model_spec.name = model
    for name, values in inputs.items():
        encode_tensor(request.inputs[name], values, content=True)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(PREDICT.path)(request.SerializeToString(), timeout=30)
    return caught.value.code().name, caught.value.details()


def pixels(value=0.5):
    x = np.full((1, 28, 28, 1), 0.5, np.float32)
    x[0, 3, 4, 0] = value
    return x


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            {"picture": [SAMPLE.data]},
            "input size does not match signature: 1!=1 len({picture}) != len({images}). "
            "Sent extra: {picture}. Missing but required: {images}.",
        ),
        ({"images": pixels().astype(np.int32)}, "Expects arg[0] to be string or float but int32 is provided"),
        (
            {"images": pixels()[:, :27]},
            "Input images of fashion must be float32 [-1, 28, 28, 1] or encoded pictures, "
            "not float32 [1, 27, 28, 1]",
        ),
        (
            {"images": pixels(np.nan)},
            "Values of input images of fashion must be finite and at most 2**64, not nan at [0, 3, 4, 0]",
        ),
        (
            {"images": pixels(np.inf)},
            "Values of input images of fashion must be finite and at most 2**64, not inf at [0, 3, 4, 0]",
        ),
        (
            {"images": [b"hello"]},
            "Input images[0] of fashion: "
            "Picture must be a JPEG or PNG file, not one that starts with 68 65 6c 6c",
        ),
        ({"images": [b""]}, "Input images[0] of fashion: Picture must be a JPEG or PNG file, not nothing"),
    ],
)
def test_the_callers_mistakes_are_invalid_arguments(server, inputs, text):
    assert refusal(server, inputs) == ("INVALID_ARGUMENT", text)


@pytest.mark.parametrize("keep", [20, 100, -40])
def test_a_truncated_picture_is_an_invalid_argument(server, keep):
    code, text = refusal(server, {"images": [SAMPLE.data[:keep]]})
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("Input images[0] of fashion: Picture of ")


def test_a_picture_whose_header_lies_is_an_invalid_argument(server):
    picture = zoo.samples("fashion")[1].data
    wide = picture[:16] + (29).to_bytes(4, "big") + picture[20:]
    code, text = refusal(server, {"images": [wide]})
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("Input images[0] of fashion: Picture ")


def test_an_unknown_output_is_an_invalid_argument(server):
    assert refusal(server, {"images": [SAMPLE.data]}, ["logits"]) == (
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: logits "
        "Outputs expected to be in the set {probabilities}.",
    )


def test_an_unknown_model_is_not_found(server):
    assert refusal(server, {"images": [SAMPLE.data]}, model="other") == (
        "NOT_FOUND",
        "Servable not found for request: Latest(other)",
    )


def test_a_request_over_the_limit_is_resource_exhausted(server):
    code, _ = refusal(server, {"images": [bytes(LIMIT + 1)]})
    assert code == "RESOURCE_EXHAUSTED"


def test_bytes_that_are_no_message_are_an_invalid_argument(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(PREDICT.path)(b"\xff" * 10, timeout=30)
    assert caught.value.code().name == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 400, "JSON"),
        (b'{"instances": [{"b64": "aGVsbG8="}]}', 400, "Picture must be a JPEG or PNG file"),
        (b'{"instances": [[[0.5]]]}', 400, "Input images of fashion must be float32 [-1, 28, 28, 1]"),
        (b'{"instances": [], "inputs": []}', 400, ""),
        (b"[" * (LIMIT + 2), 413, ""),
    ],
)
def test_rest_refuses_with_json(server, body, status, text):
    address = f"http://127.0.0.1:{server.rest_port}/v1/models/fashion:predict"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(address, body), timeout=30)
    with caught.value as answer:
        assert answer.code == status
        assert text in json.load(answer)["error"]


def test_the_client_raises_what_the_server_says(server):
    with PredictionClient("127.0.0.1", server.port, model="fashion") as client:
        with pytest.raises(RequestError, match="Sent extra: {x}"):
            client.predict({"x": pixels()})
        with pytest.raises(CallError, match="did not answer in time"):
            client.predict({"images": [SAMPLE.data] * 30}, timeout=1e-6)  # one may be in time
