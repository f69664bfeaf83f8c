"""`gatecast serve`."""

import logging
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from gatecast.runtime import open_session
from gatecast.serving import ModelSource, Server, ServerOptions

from . import options
from .readiness import ready_file, tell_ready
from .terminal import say

PORT = click.IntRange(0, 65535)


@click.command("serve")
@click.argument("path", type=options.FILE)
@click.option("--port", type=PORT, default=8500, show_default=True, help="Of gRPC; 0 takes a free one.")
@click.option(
    "--rest_api_port", type=PORT, default=8501, show_default=True, help="Of REST; 0 takes a free one."
)
@click.option("--model_name", default="default", show_default=True, help="Name that requests use.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is every network."
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VERSION",
    help="Name that requests may use for a version, such as stable=3. May be repeated.",
)
@options.device
@options.threads
@ready_file
def command(
    path: Path,
    port: int,
    rest_api_port: int,
    model_name: str,
    host: str,
    labels: Sequence[str],
    device: str,
    threads: int | None,
    ready_file: Path | None,
) -> None:
    """Serve an artifact over gRPC and REST, as TensorFlow Serving does.

    PATH is a .gcast file, or a folder with one folder for each version (1, 2, …) that holds a .gcast file;
    the newest version is served, and those that have a label. SIGTERM and Ctrl-C finish the requests in
    flight, then end the server.
    """
    if not re.fullmatch(r"[^/:\s]+", model_name):
        raise click.UsageError(f"Option --model_name must be one word without / and :, not {model_name!r}.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = Server(
        [ModelSource(model_name, path, labels=_versions(labels))],
        partial(open_session, device=device, threads=threads),
        ServerOptions(host=host, port=port, rest_port=rest_api_port),
    )
    address = f"[{host}]" if ":" in host else host

    def on_ready() -> None:
        tell_ready(ready_file, server.port, server.rest_port)
        say(
            f"Serving {model_name} on device {device}: gRPC at {address}:{server.port}, "
            f"REST at http://{address}:{server.rest_port}/v1/models/{model_name}"
        )

    server.run(on_ready)
    say("Stopped")


def _versions(labels: Sequence[str]) -> dict[str, int]:
    """Version of each label; a usage error for a word that is none, or one that comes twice."""
    versions: dict[str, int] = {}
    for label, number in (options.pair(text, "--label") for text in labels):
        if not re.fullmatch(r"[^/:\s]+", label):
            raise click.UsageError(f"Option --label must name one word without / and :, not {label!r}.")
        if not re.fullmatch(r"[0-9]{1,18}", number):
            raise click.UsageError(f"Option --label must be NAME=VERSION with a number, not {number!r}.")
        if label in versions:
            raise click.UsageError(f"Option --label must name {label} once.")
        versions[label] = int(number)
    return versions
