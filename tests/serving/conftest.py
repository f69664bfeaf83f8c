"""A small session whose answers are known, and servers that run it on free ports."""

import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest

from gatecast.errors import DeviceError, ImageError, RequestError
from gatecast.graph import Signature, TensorSpec
from gatecast.protocol import PREDICT, encode_tensor
from gatecast.serving import Limits, ModelSource, Server, ServerOptions


@dataclass
class Classifier:
    """One input `images` (pictures, or float [n, 2]); one output `scores`: size, half of it, a third of it.

    The bytes b"bad" are no picture, b"fault" fails the device, b"bug" is a fault of the code, b"wait" waits
    until `released`.
    """

    labels: tuple[str, ...] = ("cat", "dog", "bird")
    signature: Signature = Signature(
        (TensorSpec("images", "string", (-1,)),), (TensorSpec("scores", "float32", (-1, 3)),)
    )
    output_aliases: dict[str, str] = field(default_factory=lambda: {"classifier_1/scores:0": "scores"})
    calls: list = field(default_factory=list)
    running: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    released: threading.Event = field(default_factory=threading.Event)
    closed: bool = False

    def run(self, inputs, outputs=None):
        self.calls.append((inputs, outputs))
        sizes = [self._size(image) for image in inputs["images"]]
        return {"scores": np.array([[n, n / 2, n / 3] for n in sizes], np.float32).reshape(-1, 3)}

    def close(self):
        self.closed = True

    def _size(self, image):
        if isinstance(image, bytes):
            return self._size_of_picture(image)
        if image.shape != (2,):
            raise RequestError(f"images must have shape [-1, 2], not {[-1, *image.shape]}")
        if np.isnan(image).any():
            raise RequestError("images must be finite, but a value is NaN")
        return image.sum()

    def _size_of_picture(self, image):
        match image:
            case b"bad":
                raise ImageError("images[0] must be a JPEG or PNG picture, not 3 other bytes")
            case b"fault":
                raise DeviceError("Device reference lost its memory")
            case b"bug":
                raise ZeroDivisionError("secret detail")
            case b"wait":
                self.running.release()
                assert self.released.wait(30)
        return len(image)


@dataclass
class Adder:
    """Two float inputs `x` and `y` of [n, 2]; two outputs `sum` and `difference`; no labels."""

    labels: tuple[str, ...] = ()
    signature: Signature = Signature(
        (TensorSpec("x", "float32", (-1, 2)), TensorSpec("y", "float32", (-1, 2))),
        (TensorSpec("sum", "float32", (-1, 2)), TensorSpec("difference", "float32", (-1, 2))),
    )
    output_aliases: dict[str, str] = field(default_factory=dict)

    def run(self, inputs, outputs=None):
        x, y = inputs["x"], inputs["y"]
        results = {"sum": x + y, "difference": x - y}
        return {name: results[name] for name in outputs or results}

    def close(self):
        pass


@dataclass
class Running:
    """A server on free ports, the session of each model, and ways to call it."""

    server: Server
    sessions: dict[str, object]
    channel: grpc.Channel

    def call(self, method, request, **options):
        return self.channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )(request, timeout=20, **options)

    def refused(self, method, request, **options):
        """Return (code, text) of a call that must fail."""
        with pytest.raises(grpc.RpcError) as error:
            self.call(method, request, **options)
        return error.value.code().name, error.value.details()

    def predict(self, inputs, name="classifier", **options):
        return self.call(PREDICT, predict_request(inputs, name), **options)

    def get(self, path, body=None, method=None):
        """Return (status, JSON) of a REST request; a body is sent by POST."""
        data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.rest_port}{path}", data, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


def predict_request(inputs, name="", **fields):
    request = PREDICT.request(**fields)
    if name:
        request.model_spec.name = name
    for key, values in inputs.items():
        encode_tensor(request.inputs[key], values, content=True)
    return request


@pytest.fixture(name="predict_request")
def _predict_request():
    return predict_request


@pytest.fixture(scope="session")
def classifier():
    return Classifier


@pytest.fixture(scope="session")
def adder():
    return Adder


def servers(folder):
    """Yield a function that starts a server of sessions by model name; stop all servers after."""
    started = []

    def start(sessions, rest=False, **limits):
        sources = []
        for name in sessions:
            (folder / f"{name}.gcast").touch()
            sources.append(ModelSource(name, folder / f"{name}.gcast"))
        options = ServerOptions(port=0, rest_port=0 if rest else None, grace_s=5, limits=Limits(**limits))
        server = Server(sources, lambda path: sessions[path.stem], options)
        server.start()
        running = Running(server, sessions, grpc.insecure_channel(f"127.0.0.1:{server.port}"))
        started.append(running)
        return running

    yield start
    for running in started:
        running.channel.close()
        running.server.stop()


@pytest.fixture
def serve(tmp_path):
    """Start servers that live for one test."""
    yield from servers(tmp_path)


@pytest.fixture(scope="module")
def serve_once(tmp_path_factory):
    """Start servers that live for all tests of a module."""
    yield from servers(tmp_path_factory.mktemp("models"))


@pytest.fixture
def running(serve):
    """Serve the model `classifier` alone."""
    return serve({"classifier": Classifier()})


@pytest.fixture
def both(serve):
    """Serve the models `classifier` and `adder`."""
    return serve({"classifier": Classifier(), "adder": Adder()})
