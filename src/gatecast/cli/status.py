"""`gatecast status`: all of a workspace."""

from collections.abc import Sequence
from typing import Any

import click

from gatecast.workspace import Operation, Workspace

from . import compute, options, records, service
from .operation import SHORT
from .terminal import print_json, print_table, print_text, size

LATEST = 10
"""Operations that are shown."""

Table = tuple[Sequence[str], Sequence[Sequence[object]]]


@click.command("status")
@records.workspace
@options.as_json
def command(workspace: Workspace, json_: bool) -> None:
    """Show all of a workspace: models, images, services and what runs."""
    if json_:
        print_json(_document(workspace))
        return
    operations = workspace.operations.list()
    tables = _tables(workspace, operations[:LATEST])
    print_text(f"Workspace {workspace.name} in {workspace.folder}")
    if supervisor := workspace.services.supervisor():
        print_text(f"Supervisor: process {supervisor.process.pid}, Gatecast {supervisor.version}")
    for columns, rows in tables:
        if rows:
            print_text("")
            print_table(columns, rows)
    if (older := len(operations) - LATEST) > 0:
        print_text(f"\nOlder operations: {older}; `gatecast operation list` shows them")


def _tables(workspace: Workspace, operations: Sequence[Operation]) -> list[Table]:
    services = workspace.services.list()
    return [
        (
            ("model", "created", ">size", "tags"),
            [
                (model.id, records.moment(model.created_time), size(model.size), records.words(model.tags))
                for model in workspace.models.list()
            ],
        ),
        (
            ("operation", "kind", "of", "state", "result"),
            [
                (
                    operation.id[:SHORT],
                    operation.kind,
                    operation.subject,
                    operation.state,
                    operation.result or "",
                )
                for operation in operations
            ],
        ),
        (
            ("image", "state", "models", "target", ">size", "created"),
            [
                (
                    image.id,
                    image.state,
                    ", ".join(image.models),
                    image.target,
                    size(image.size),
                    records.moment(image.created_time),
                )
                for image in workspace.images.list()
            ],
        ),
        compute.table(workspace),
        (service.COLUMNS, [service.row(found) for found in services]),
        service.replica_table(workspace),
    ]


def _document(workspace: Workspace) -> dict[str, Any]:
    services = workspace.services.list()
    supervisor = workspace.services.supervisor()
    return {
        "workspace": {"name": workspace.name, "folder": str(workspace.folder)},
        "models": [records.plain(model, id=model.id) for model in workspace.models.list()],
        "operations": [records.plain(operation) for operation in workspace.operations.list()],
        "images": [records.plain(image, id=image.id) for image in workspace.images.list()],
        "computes": [records.plain(found) for found in workspace.computes.list()],
        "services": [records.plain(found) for found in services],
        "replicas": [records.plain(replica) for replica in workspace.services.replicas()],
        "supervisor": None if supervisor is None else records.plain(supervisor),
    }
