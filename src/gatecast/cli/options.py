"""Options that several commands share, and what their texts mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
"""A path; whether it exists is found out, and told, by what opens it."""

OUTPUT = click.Path(path_type=Path, dir_okay=False)
"""A file to write."""


def as_json(command: Command) -> Command:
    """Add `--json`."""
    return click.option("--json", "json_", is_flag=True, help="Print JSON.")(command)


def device(command: Command) -> Command:
    """Add `--device`."""
    return click.option(
        "--device",
        default=_default_device,
        show_default="software; reference where its extension is missing",
        help="Device that runs the Programs.",
    )(command)


def threads(command: Command) -> Command:
    """Add `--threads`."""
    return click.option(
        "--threads",
        type=click.IntRange(min=1),
        show_default="the processors of this process",
        help="Threads that share the work of one picture.",
    )(command)


@dataclass(frozen=True)
class Network:
    """A file or folder that holds a network, and the tensors that it is to begin and end with, if named."""

    path: Path
    inputs: str | None
    outputs: str | None


def network(metavar: str) -> Callable[[Command], Any]:
    """Add the argument `metavar`, `--inputs` and `--outputs`; the command gets them as one: `network`."""

    def added(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def packed(source: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], **rest: Any) -> Any:
            named = Network(source, ",".join(inputs) or None, ",".join(outputs) or None)
            return command(network=named, **rest)

        for side, does in (("outputs", "ends"), ("inputs", "begins")):
            text = f"Tensors that the network {does} with.  [default: all {side}]"
            packed = click.option(f"--{side}", multiple=True, metavar="A,B", help=text)(packed)
        return click.argument("source", metavar=metavar, type=FILE)(packed)

    return added


@dataclass(frozen=True)
class Rounding:
    """How a network is to be quantised; `formats` is None where the caller does not say."""

    formats: str | None
    first: str
    overrides: dict[str, str]


def rounding(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--format`, `--first` and `--override`; the command gets them as one argument `rounding`."""

    @wraps(command)
    def packed(formats: str | None, first: str, overrides: tuple[str, ...], **rest: Any) -> Any:
        return command(rounding=Rounding(formats, first, _named(overrides)), **rest)

    for option in (
        click.option(
            "--override",
            "overrides",
            multiple=True,
            metavar="LAYER=FORMAT",
            help="Formats of one layer. May be repeated.",
        ),
        click.option("--first", default="bfp8", show_default=True, help="Formats of the first convolutions."),
        click.option(
            "--format",
            "formats",
            metavar="FORMAT",
            help="bfp4 … bfp8, or weights and activations apart as in bfp5/bfp6.  [default: bfp8]",
        ),
    ):
        packed = option(packed)
    return packed


def _default_device() -> str:
    """Ask the devices when a command needs one: they bring NumPy, which most commands do without."""
    name: str = import_module("gatecast.devices").default_device()
    return name


def _named(overrides: Sequence[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for layer, formats in (pair(text, "--override") for text in overrides):
        if layer in named:
            raise click.UsageError(f"Option --override must name layer {layer} once.")
        named[layer] = formats
    return named


def pair(text: str, option: str) -> tuple[str, str]:
    """Split ``NAME=VALUE`` at its first ``=``; a usage error if it has none."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.UsageError(f"Option {option} must be NAME=VALUE, not {text!r}.")
    return name, value


def refuse_overwriting(source: Path, targets: Sequence[Path]) -> None:
    """Refuse an output that is the input: usage error."""
    for target in targets:
        if source.resolve() == target.resolve():
            raise click.UsageError(f"Output must be another file than the input {source}.")
