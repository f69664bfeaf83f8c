"""What a call costs beside the model: whole calls at batch 1 over loopback, of a session that does nothing.

    python benchmarks/serving_overhead.py [--calls 1000] [--json]

Server and client run in two processes, with one request in flight.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gatecast.client import PredictionClient
from gatecast.graph import Signature, TensorSpec
from gatecast.serving import ModelSource, Server, ServerOptions

SCORES = np.linspace(0, 1, 1000, dtype=np.float32).reshape(1, 1000)


class Nothing:
    """A session that answers 1000 scores at once, for a picture or a float tensor."""

    signature = Signature(
        (TensorSpec("images", "string", (-1,)),), (TensorSpec("scores", "float32", (-1, 1000)),)
    )
    labels: tuple[str, ...] = ()
    output_aliases: dict[str, str] = {}

    def run(self, inputs, outputs=None):
        """Return the scores."""
        return {"scores": SCORES}

    def close(self):
        """Do nothing."""


def serve() -> None:
    """Serve until a signal comes; print the ports."""
    with tempfile.NamedTemporaryFile(suffix=".gcast") as artifact:
        source = ModelSource("default", Path(artifact.name))
        served = Server([source], lambda path: Nothing(), ServerOptions(port=0, rest_port=0))
        served.run(on_ready=lambda: print(served.port, served.rest_port, flush=True))


@contextmanager
def server() -> Iterator[tuple[int, int]]:
    """Run `serve` in a process of its own; give its ports."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port, rest_port = (int(word) for word in process.stdout.readline().split())
            yield port, rest_port
        finally:
            process.terminate()


def measure(call: Callable[[], object], calls: int) -> dict[str, float]:
    """Return microseconds of a call: minimum, p50 and p99."""
    for _ in range(max(20, calls // 10)):
        call()
    times = np.empty(calls)
    for index in range(calls):
        start = time.perf_counter()
        call()
        times[index] = time.perf_counter() - start
    p50, p99 = np.percentile(times, [50, 99]) * 1e6
    return {"min_us": float(times.min() * 1e6), "p50_us": float(p50), "p99_us": float(p99)}


def post(url: str, body: bytes) -> bytes:
    """Return the reply of a REST request."""
    with urllib.request.urlopen(url, body) as reply:
        return reply.read()


def rows(port: int, rest_port: int, calls: int) -> list[dict[str, object]]:
    """Measure each kind of request."""
    picture = np.random.default_rng(0).bytes(150_000)
    tensor = np.zeros((1, 224, 224, 3), np.float32)
    body = json.dumps({"instances": [{"b64": b64encode(picture).decode()}]}).encode()
    url = f"http://127.0.0.1:{rest_port}/v1/models/default:predict"
    with PredictionClient("127.0.0.1", port, model="default") as client:
        kinds: dict[str, Callable[[], object]] = {
            "gRPC, 1 byte": lambda: client.predict({"images": [b"x"]}),
            "gRPC, picture of 150 KB": lambda: client.predict({"images": [picture]}),
            "gRPC, float tensor of 600 KB": lambda: client.predict({"images": tensor}),
            "REST, picture of 150 KB in base64": lambda: post(url, body),
        }
        return [{"request": name, "calls": calls, **measure(call, calls)} for name, call in kinds.items()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1000, help="calls of each kind")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    with server() as ports:
        table = rows(*ports, options.calls)
    if options.json:
        print(json.dumps(table, indent=1))
        return
    print(f"{'request':36}{'min µs':>10}{'p50 µs':>10}{'p99 µs':>10}")
    for row in table:
        print(f"{row['request']:36}{row['min_us']:10.0f}{row['p50_us']:10.0f}{row['p99_us']:10.0f}")


if __name__ == "__main__":
    main()
