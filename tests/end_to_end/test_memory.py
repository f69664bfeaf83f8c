"""A server of ResNet-50 stays within three times its weights and 100 MB."""

import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gatecast.client import PredictionClient
from gatecast.compiler import compile as compile_graph
from gatecast.quantization import quantize
from gatecast.zoo import network

pytestmark = pytest.mark.slow
pytest.importorskip("gatecast._native", reason="needs the extension gatecast._native")

CALLS = 30


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """The file, and the bytes of its weights."""
    path = tmp_path_factory.mktemp("memory") / "resnet50.gcast"
    known = network("resnet50")
    compiled = compile_graph(quantize(known.build(known.random_arrays()), "bfp8"), "software")
    compiled.save(path)
    return path, sum(layer.weight_bytes for layer in compiled.layers)


@pytest.fixture
def server(artifact, tmp_path):
    """A running server: its process, and the port of gRPC."""
    ready = tmp_path / "ready.json"
    command = [
        "-m",
        "gatecast",
        "serve",
        artifact[0],
        "--port",
        "0",
        "--rest_api_port",
        "0",
        "--ready_file",
        ready,
    ]
    process = subprocess.Popen([sys.executable, *map(str, command)], stderr=subprocess.PIPE)
    try:
        for _ in range(600):
            if ready.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        yield process, json.loads(ready.read_text())["port"]
    finally:
        process.terminate()
        process.communicate()


def peak_bytes(process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024


def photograph() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def test_memory_is_bounded_by_the_weights(artifact, server):
    process, port = server
    tensor = np.random.default_rng(0).standard_normal((1, 224, 224, 3), np.float32)
    with PredictionClient(f"127.0.0.1:{port}") as client:
        for _ in range(CALLS):
            client.predict({"images": tensor})
            client.predict({"images": [photograph()]})
    assert peak_bytes(process) <= 3 * artifact[1] + 100_000_000
