"""What the commands over a workspace share: its option, tags, filters, how a record is shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from gatecast.errors import ConflictError
from gatecast.workspace import Workspace

from . import options
from .terminal import print_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class _Versioned(Protocol):
    """A record with versions: a model or an image."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


_Record = TypeVar("_Record", bound=_Versioned)


class _Records(Protocol[_Record]):
    """The models, or the images, of a workspace."""

    def find(self, text: str, /) -> _Record: ...
    def list(self, name: str, /) -> list[_Record]: ...


def workspace(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--workspace`; the command gets it opened, as `workspace`."""

    @wraps(command)
    def opened(workspace: Path | None, **rest: Any) -> Any:
        return command(workspace=Workspace.open(workspace), **rest)

    return click.option(
        "--workspace",
        metavar="DIR",
        type=options.FILE,
        show_default="GATECAST_WORKSPACE, else the nearest from here upward",
        help="Folder of the workspace.",
    )(opened)


def labels(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--tag`, `--property` and `--description`, for what is made."""

    @wraps(command)
    def packed(tags: Sequence[str], properties: Sequence[str], **rest: Any) -> Any:
        return command(tags=named(tags, "--tag"), properties=named(properties, "--property"), **rest)

    for option in (
        click.option("--description", default="", metavar="TEXT", help="What it is."),
        click.option(
            "--property",
            "properties",
            multiple=True,
            metavar="KEY=VALUE",
            help="Fact that never changes. May be repeated.",
        ),
        click.option(
            "--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Word that may change. May be repeated."
        ),
    ):
        packed = option(packed)
    return packed


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--tag` and `--property`, for what is listed."""

    @wraps(command)
    def packed(tags: Sequence[str], properties: Sequence[str], **rest: Any) -> Any:
        return command(tags=_wanted(tags), properties=_wanted(properties), **rest)

    for option in (
        click.option(
            "--property",
            "properties",
            multiple=True,
            metavar="KEY[=VALUE]",
            help="Only those with this property. May be repeated.",
        ),
        click.option(
            "--tag",
            "tags",
            multiple=True,
            metavar="KEY[=VALUE]",
            help="Only those with this tag. May be repeated.",
        ),
    ):
        packed = option(packed)
    return packed


def changes(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``KEY=VALUE…``, `--remove`, `--property` and `--description`.

    The command gets them as `changes`, which `update` takes; usage error if nothing would change.
    """

    @wraps(command)
    def packed(
        tags: Sequence[str],
        remove: Sequence[str],
        properties: Sequence[str],
        description: str | None,
        **rest: Any,
    ) -> Any:
        if not (tags or remove or properties or description is not None):
            raise click.UsageError("Something must change: KEY=VALUE, --remove, --property or --description.")
        asked = {
            "add_tags": named(tags, "KEY=VALUE"),
            "remove_tags": remove,
            "add_properties": named(properties, "--property"),
            "description": description,
        }
        return command(changes=asked, **rest)

    for option in (
        click.option("--description", metavar="TEXT", help="New description."),
        click.option(
            "--property",
            "properties",
            multiple=True,
            metavar="KEY=VALUE",
            help="Property to add. May be repeated.",
        ),
        click.option("--remove", multiple=True, metavar="KEY", help="Tag to take away. May be repeated."),
        click.argument("tags", metavar="[KEY=VALUE]...", nargs=-1),
    ):
        packed = option(packed)
    return packed


def only(records: _Records[_Record], text: str, kind: str) -> _Record:
    """Return what `text` names, to delete it; ConflictError if it leaves out which of several versions."""
    found = records.find(text)
    versions = records.list(found.name)
    if ":" not in text and len(versions) > 1:
        raise ConflictError(
            f"Version of {kind} {text} must be given to delete it: it has {len(versions)}",
            hint=f"For example: gatecast {kind} delete {versions[0].id}",
        )
    return found


def named(texts: Sequence[str], option: str) -> dict[str, str]:
    """Return what ``KEY=VALUE`` texts say; usage error for another form, or for a key that comes twice."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise click.UsageError(f"Option {option} must be KEY=VALUE, not {text!r}.")
        if key in found:
            raise click.UsageError(f"Option {option} must name {key} once.")
        found[key] = value
    return found


def plain(record: "DataclassInstance", **more: object) -> dict[str, Any]:
    """Return a record as data for JSON: its fields, and more; times are ISO 8601 in UTC."""
    return {key: _plain(value) for key, value in {**asdict(record), **more}.items()}


def print_record(rows: Mapping[str, object]) -> None:
    """Print one thing, a line for each field; empty ones are left out."""
    width = max(len(key) for key in rows) + 2
    for key, value in rows.items():
        lines = str(value).splitlines()
        for place, line in enumerate(lines):
            print_text(f"{'' if place else key:{width}}{line}".rstrip())


def words(labels: Mapping[str, str]) -> str:
    """Tags or properties on one line."""
    return ", ".join(f"{key}={value}" if value else key for key, value in labels.items())


def moment(time: datetime) -> str:
    """Time to the second, where the user is."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def _wanted(texts: Sequence[str]) -> list[tuple[str, str | None]]:
    pairs = [text.partition("=") for text in texts]
    return [(key, value if equals else None) for key, equals, value in pairs]


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value.value if isinstance(value, Enum) else value
