"""Serves a session that waits for a line on stdin; used by test_server.py to stop a server in flight."""

import sys
from pathlib import Path

import numpy as np

from gatecast.graph import Signature, TensorSpec
from gatecast.serving import ModelSource, Server, ServerOptions


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Waiting:
    signature = Signature(
        (TensorSpec("images", "string", (-1,)),), (TensorSpec("scores", "float32", (-1, 1)),)
    )
    labels = ()
    output_aliases = {}

    def run(self, inputs, outputs=None):
        say("running")
        sys.stdin.readline()
        return {"scores": np.ones((1, 1), np.float32)}

    def close(self):
        say("closed")


server = Server(
    [ModelSource("m", Path(sys.argv[1]))],
    lambda path: Waiting(),
    ServerOptions(port=0, rest_port=0, grace_s=20),
)
server.run(on_ready=lambda: say(f"{server.port} {server.rest_port}"))
say("ended")
