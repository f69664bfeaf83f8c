"""`--ready_file`: how a server tells who started it that it answers, and on which ports."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gatecast.files import write_whole

from .options import OUTPUT

Command = TypeVar("Command", bound=Callable[..., Any])


def ready_file(command: Command) -> Command:
    """Add `--ready_file`."""
    return click.option(
        "--ready_file",
        type=OUTPUT,
        help="Write process and ports there, as JSON, once requests are answered.",
    )(command)


def tell_ready(path: Path | None, port: int, rest_port: int | None) -> None:
    """Write the file if there is to be one."""
    if path is not None:
        document = {"pid": os.getpid(), "port": port, "rest_port": rest_port}
        write_whole(path, [json.dumps(document).encode()], "Ready file")
