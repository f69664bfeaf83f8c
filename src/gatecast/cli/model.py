"""`gatecast model`: register, list, show, tag, download and delete models."""

from pathlib import Path
from typing import Any

import click

from gatecast.workspace import Model, Workspace

from . import options, records
from .terminal import print_json, print_table, print_text, say, size, working

Filter = list[tuple[str, str | None]]


@click.group("model")
def command() -> None:
    """Register networks under a name and a version, and find them again."""


@command.command()
@click.argument("name")
@click.argument("path", type=options.FILE)
@records.labels
@records.workspace
@options.as_json
def register(
    name: str,
    path: Path,
    tags: dict[str, str],
    properties: dict[str, str],
    description: str,
    workspace: Workspace,
    json_: bool,
) -> None:
    """Copy a file or a folder into the workspace, as the next version of NAME.

    PATH is an ONNX file, a TensorFlow SavedModel or frozen graph, an artifact (.gcast), or any other file or
    folder.
    """
    with working(f"Registering {path} as {name}"):
        model = workspace.models.register(
            name, path, tags=tags, properties=properties, description=description
        )
    if json_:
        print_json(_as_json(model))
    say(f"Registered {model.id}, {size(model.size)}, {model.digest}")


@command.command("list")
@click.argument("name", required=False)
@records.filters
@click.option("--latest", is_flag=True, help="Only the latest version of each name.")
@records.workspace
@options.as_json
def list_(
    name: str | None, tags: Filter, properties: Filter, latest: bool, workspace: Workspace, json_: bool
) -> None:
    """List the models, or the versions of one; the newest version comes first."""
    models = workspace.models.list(name, tags=tags, properties=properties, latest=latest)
    if json_:
        print_json([_as_json(model) for model in models])
        return
    if not models:
        say("No models" if not (name or tags or properties) else "No such models")
        return
    print_table(
        ("model", "created", ">size", "tags", "description"),
        [
            (m.id, records.moment(m.created_time), size(m.size), records.words(m.tags), m.description)
            for m in models
        ],
    )


@command.command()
@click.argument("model", metavar="MODEL[:VERSION]")
@records.workspace
@options.as_json
def show(model: str, workspace: Workspace, json_: bool) -> None:
    """Show a model: by default its latest version."""
    found = workspace.models.find(model)
    if json_:
        print_json(_as_json(found))
        return
    _print(found)


@command.command()
@click.argument("model", metavar="MODEL[:VERSION]")
@records.changes
@records.workspace
@options.as_json
def tag(model: str, changes: dict[str, Any], workspace: Workspace, json_: bool) -> None:
    """Change the tags and the description of a model, or add properties, which never change then."""
    found = workspace.models.update(workspace.models.find(model), **changes)
    if json_:
        print_json(_as_json(found))
    say(f"{found.id} has tags: {records.words(found.tags) or 'none'}")


@command.command()
@click.argument("model", metavar="MODEL[:VERSION]")
@click.option(
    "-o", "--output", metavar="DIR", type=options.FILE, default=".", show_default=True, help="Where to."
)
@click.option("--replace", is_flag=True, help="Replace what is there under the model's name.")
@records.workspace
def download(model: str, output: Path, replace: bool, workspace: Workspace) -> None:
    """Copy a model out of the workspace, under the name that its file or folder had."""
    found = workspace.models.find(model)
    with working(f"Copying {found.id}, {size(found.size)}"):
        path = workspace.models.download(found, output, exist_ok=replace)
    print_text(str(path))


@command.command()
@click.argument("models", metavar="MODEL[:VERSION]...", nargs=-1, required=True)
@records.workspace
def delete(models: tuple[str, ...], workspace: Workspace) -> None:
    """Delete models. The version may be left out where there is only one."""
    for model in [records.only(workspace.models, text, "model") for text in models]:
        workspace.models.delete(model)
        say(f"Deleted {model.id}")


def _as_json(model: Model) -> dict[str, object]:
    return records.plain(model, id=model.id, url=model.url)


def _print(model: Model) -> None:
    records.print_record(
        {
            "id": model.id,
            "url": model.url,
            "created": records.moment(model.created_time),
            "description": model.description,
            "parent": model.parent or "",
            "size": size(model.size),
            "digest": model.digest,
            "tags": records.words(model.tags),
            "properties": "\n".join(f"{key}={value}" for key, value in model.properties.items()),
        }
    )
    print_text("")
    print_table(
        ("file", ">size", "digest"),
        [
            (f"{model.file_name}/{file.path}" if model.is_folder else file.path, size(file.size), file.digest)
            for file in model.files
        ],
    )
