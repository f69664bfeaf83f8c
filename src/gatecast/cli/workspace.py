"""`gatecast workspace`: the folder that holds models, images and services."""

from pathlib import Path

import click

from gatecast.workspace import Workspace

from . import options, records
from .operation import SHORT
from .terminal import count, print_json, say, size


@click.group("workspace")
def command() -> None:
    """Make a folder a workspace, show it, tidy it."""


@command.command()
@click.argument("folder", metavar="DIR", type=options.FILE)
@click.option("--name", metavar="NAME", show_default="name of the folder", help="Name of the workspace.")
@click.option("--resource-group", default="local", show_default=True, help="Word for what it belongs to.")
@click.option("--location", default="local", show_default=True, help="Word for where it is.")
@click.option("--subscription-id", metavar="ID", show_default="a new UUID", help="Word for who pays.")
@options.as_json
def create(
    folder: Path,
    name: str | None,
    resource_group: str,
    location: str,
    subscription_id: str | None,
    json_: bool,
) -> None:
    """Make a folder a workspace. The folder is made if there is none."""
    workspace = Workspace.create(
        folder,
        name=name,
        resource_group=resource_group,
        location=location,
        subscription_id=subscription_id,
    )
    if json_:
        print_json(_summary(workspace, workspace.store.blobs.size()))
    say(f"Created workspace {workspace.name} in {workspace.folder}")


@command.command()
@records.workspace
@options.as_json
def show(workspace: Workspace, json_: bool) -> None:
    """Show which workspace is used, and how much is in it."""
    stored = workspace.store.blobs.size()
    summary = _summary(workspace, stored)
    if json_:
        print_json(summary)
        return
    versions = f"{summary['models']}, in {count(len(workspace.models.list()))} versions"
    records.print_record({**summary, "models": versions, "bytes": size(stored)})


@command.command()
@click.option(
    "--days",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="N",
    help="What was needed within so many days stays.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@records.workspace
@options.as_json
def prune(days: float, dry_run: bool, workspace: Workspace, json_: bool) -> None:
    """Remove old operations, logs of what is gone, and layers of the cache that no image was made with.

    Models, images and services stay, as do the logs of images that there are. Layers are in the cache folder
    of the user, for all workspaces; those that the next image would take stay.
    """
    pruned = workspace.prune(days, dry_run)
    if json_:
        print_json(
            {
                "operations": [operation.id for operation in pruned.operations],
                "logs": [str(path) for path in pruned.logs],
                "layers": [str(path) for path in pruned.layers],
                "bytes": pruned.size,
            }
        )
    for operation in pruned.operations:
        say(f"  operation {operation.id[:SHORT]}, {operation.kind} {operation.subject}, {operation.state}")
    for path in (*pruned.logs, *pruned.layers):
        say(f"  {path}")
    what = (
        f"operations: {count(len(pruned.operations))}, logs: {count(len(pruned.logs))}, "
        f"files of layers: {count(len(pruned.layers))}; {size(pruned.size)}"
    )
    say(f"{'Would remove' if dry_run else 'Removed'} {what}")


def _summary(workspace: Workspace, stored: int) -> dict[str, object]:
    return {
        "name": workspace.name,
        "folder": str(workspace.folder),
        "resource_group": workspace.resource_group,
        "location": workspace.location,
        "subscription_id": workspace.subscription_id,
        "models": len(workspace.models.list(latest=True)),
        "images": len(workspace.images.list()),
        "computes": len(workspace.computes.list()),
        "services": len(workspace.services.list()),
        "operations": len(workspace.operations.list()),
        "bytes": stored,
    }
