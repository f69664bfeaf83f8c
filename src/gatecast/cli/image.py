"""`gatecast image`: make, list, show, export and delete images."""

from pathlib import Path
from typing import Any

import click

from gatecast.errors import FileError
from gatecast.workspace import Image, Operation, Workspace, build_base, find_base

from . import options, records
from .follow import follow
from .terminal import print_json, print_table, print_text, say, size, working

Filter = list[tuple[str, str | None]]

LOCAL_ONLY = "It has no base: only services of kind local can run it. `gatecast image base` makes a base."


@click.group("image")
def command() -> None:
    """Make images that serve a model, without any container tool."""


@command.command()
@click.argument("name")
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="MODEL[:VERSION]",
    help="Registered network, or artifact. One only.",
)
@click.option("--target", default="software", show_default=True, help="Architecture to compile for.")
@click.option(
    "--format",
    default="bfp8",
    show_default=True,
    help="For a network that is not quantised yet: as `gatecast quantize` takes it, or float.",
)
@click.option(
    "--base",
    metavar="FILE",
    type=options.FILE,
    show_default="what `gatecast image base` made",
    help="Tar of a root file system with Python, perhaps compressed by gzip.",
)
@click.option("-o", "--output", metavar="F.tar", type=options.OUTPUT, help="Also export it to this file.")
@click.option("--no-wait", is_flag=True, help="Print the operation's id and return at once.")
@records.labels
@records.workspace
@options.as_json
def create(
    name: str,
    models: tuple[str, ...],
    output: Path | None,
    no_wait: bool,
    workspace: Workspace,
    json_: bool,
    **rest: Any,
) -> None:
    """Make the next version of the image NAME: a model, compiled, with all that serves it.

    Two images of the same model by the same Gatecast have the same digest. What it says while it is made is
    in its log: `gatecast image log`.
    """
    if no_wait and output:
        raise click.UsageError("Option -o must not be given with --no-wait: the image is not made yet.")
    if output and not output.absolute().parent.is_dir():
        raise FileError(f"Folder {output.parent} must exist, to write the image to", hint="Make it first.")
    image, operation = workspace.images.create(name, models, **rest)
    if no_wait:
        print_json(_operation(image, operation)) if json_ else print_text(operation.id)
        return
    follow(workspace, operation, f"Image {image.id}")
    image = workspace.images.get(image.name, image.version)
    print_json(_as_json(image)) if json_ else print_text(image.id)
    say(f"Made {image.id}, {size(image.size)}, {image.digest}")
    if output:
        workspace.images.export(image, output)
        say(f"Wrote {output}, {size(output.stat().st_size)}")
    if not _has_base(image):
        say(LOCAL_ONLY)


@command.command()
@click.option(
    "--mirror", metavar="URL", help="Archive of Debian.  [default: Debian's, with its security updates]"
)
@click.option("--refresh", is_flag=True, help="Fetch it again, for what was mended since.")
@options.as_json
def base(mirror: str | None, refresh: bool, json_: bool) -> None:
    """Make the base of images from packages of Debian: Python and libraries, without a shell.

    It is kept in the cache folder, and images that are made afterwards have it. mmdebstrap must be installed;
    root is not needed.
    """
    found = None if refresh else find_base()
    if found is None:
        with working("Fetching packages of Debian"):
            found = build_base(mirror)
    layer = found.cached.layer
    if json_:
        print_json({"name": found.name, "digest": layer.diff_id, "bytes": layer.size, "python": found.python})
    say(f"Base {found.name}, {size(layer.size)}, {layer.diff_id}")


@command.command("list")
@click.argument("name", required=False)
@click.option("--model", metavar="MODEL[:VERSION]", help="Only images of this model.")
@records.filters
@records.workspace
@options.as_json
def list_(
    name: str | None,
    model: str | None,
    tags: Filter,
    properties: Filter,
    workspace: Workspace,
    json_: bool,
) -> None:
    """List the images, or the versions of one; the newest version comes first."""
    images = workspace.images.list(name, model, tags=tags, properties=properties)
    if json_:
        print_json([_as_json(image) for image in images])
        return
    if not images:
        say("No images" if not (name or model or tags or properties) else "No such images")
        return
    print_table(
        ("image", "state", "created", "model", "target", ">size", "tags", "location"),
        [
            (
                i.id,
                i.state,
                records.moment(i.created_time),
                ", ".join(i.models),
                i.target,
                size(i.size) if i.digest else "",
                records.words(i.tags),
                i.location,
            )
            for i in images
        ],
    )


@command.command()
@click.argument("image", metavar="IMAGE[:VERSION]")
@records.workspace
@options.as_json
def show(image: str, workspace: Workspace, json_: bool) -> None:
    """Show an image: by default its latest version."""
    found = workspace.images.find(image)
    if json_:
        print_json(_as_json(found))
        return
    records.print_record(
        {
            "id": found.id,
            "state": found.state,
            "error": workspace.operations.get(found.operation).error,
            "location": found.location,
            "digest": found.digest or "",
            "size": size(found.size) if found.digest else "",
            "created": records.moment(found.created_time),
            "description": found.description,
            "model": ", ".join(found.models),
            "target": found.target,
            "tags": records.words(found.tags),
            "properties": "\n".join(f"{key}={value}" for key, value in found.properties.items()),
            "log": found.log,
            "labels": "\n".join(f"{key}={value}" for key, value in found.labels.items()),
        }
    )


@command.command()
@click.argument("image", metavar="IMAGE[:VERSION]")
@records.changes
@records.workspace
@options.as_json
def tag(image: str, changes: dict[str, Any], workspace: Workspace, json_: bool) -> None:
    """Change the tags and the description of an image, or add properties; its digest stays."""
    found = workspace.images.update(workspace.images.find(image), **changes)
    if json_:
        print_json(_as_json(found))
    say(f"{found.id} has tags: {records.words(found.tags) or 'none'}")


@command.command()
@click.argument("image", metavar="IMAGE[:VERSION]")
@records.workspace
def log(image: str, workspace: Workspace) -> None:
    """Print what was said while an image was made."""
    found = workspace.images.find(image)
    operation = workspace.operations.get(found.operation)
    print_text(workspace.operations.read_log(operation).rstrip("\n"))


@command.command()
@click.argument("image", metavar="IMAGE[:VERSION]")
@click.option("-o", "--output", required=True, metavar="F.tar", type=options.OUTPUT, help="File to write.")
@records.workspace
def export(image: str, output: Path, workspace: Workspace) -> None:
    """Write an image as one tar, which `docker load`, `podman load` and `skopeo` take."""
    found = workspace.images.find(image)
    with working(f"Writing {found.id}"):
        workspace.images.export(found, output)
    say(f"Wrote {output}, {size(output.stat().st_size)}, as {found.location}")
    if not _has_base(found):
        say(LOCAL_ONLY)


@command.command()
@click.argument("images", metavar="IMAGE:VERSION...", nargs=-1, required=True)
@records.workspace
def delete(images: tuple[str, ...], workspace: Workspace) -> None:
    """Delete images. The version may be left out where there is only one."""
    for image in [records.only(workspace.images, text, "image") for text in images]:
        workspace.images.delete(image)
        say(f"Deleted {image.id}")


def _has_base(image: Image) -> bool:
    return image.labels.get("io.gatecast.base") != "none"


def _as_json(image: Image) -> dict[str, Any]:
    return records.plain(image, id=image.id, location=image.location)


def _operation(image: Image, operation: Operation) -> dict[str, Any]:
    return records.plain(operation, image=image.id)
