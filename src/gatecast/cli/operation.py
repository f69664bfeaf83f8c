"""`gatecast operation`: what runs in the background, and what came of it."""

import click

from gatecast.workspace import Operation, Workspace

from . import options, records
from .follow import follow
from .terminal import print_json, print_table, print_text, say

SHORT = 8
"""Characters of an id that tables show; a command takes any start of an id that is unique."""


@click.group("operation")
def command() -> None:
    """Show conversions and builds: their states and logs."""


@command.command("list")
@click.option("--kind", metavar="KIND", help="Only `convert`, or only `image`.")
@records.workspace
@options.as_json
def list_(kind: str | None, workspace: Workspace, json_: bool) -> None:
    """List the operations, the newest first."""
    operations = workspace.operations.list(kind)
    if json_:
        print_json([records.plain(operation) for operation in operations])
        return
    if not operations:
        say("No operations")
        return
    print_table(
        ("operation", "kind", "of", "state", "started", ">seconds", "result"),
        [
            (
                o.id[:SHORT],
                o.kind,
                o.subject,
                o.state,
                records.moment(o.created_time),
                _seconds(o),
                o.result or "",
            )
            for o in operations
        ],
    )


@command.command()
@click.argument("identity", metavar="ID")
@records.workspace
@options.as_json
def show(identity: str, workspace: Workspace, json_: bool) -> None:
    """Show an operation: its state, what was asked for, what went wrong."""
    operation = workspace.operations.get(identity)
    if json_:
        print_json(records.plain(operation))
        return
    records.print_record(
        {
            "id": operation.id,
            "kind": operation.kind,
            "of": operation.subject,
            "state": operation.state,
            "result": operation.result or "",
            "error": operation.error,
            "started": records.moment(operation.created_time),
            "seconds": _seconds(operation),
            "log": operation.log,
            "request": "\n".join(
                f"{key}={value}" for key, value in operation.request.items() if value is not None
            ),
        }
    )


@command.command()
@click.argument("identity", metavar="ID")
@records.workspace
def log(identity: str, workspace: Workspace) -> None:
    """Print the log of an operation, as far as it has come."""
    print_text(workspace.operations.read_log(workspace.operations.get(identity)).rstrip("\n"))


@command.command()
@click.argument("identity", metavar="ID")
@records.workspace
def wait(identity: str, workspace: Workspace) -> None:
    """Wait until an operation has ended; print its result."""
    operation = workspace.operations.get(identity)
    operation = follow(workspace, operation, f"Operation {operation.kind} of {operation.subject}")
    print_text(operation.result or "")


@command.command()
@click.argument("identity", metavar="ID")
@records.workspace
def cancel(identity: str, workspace: Workspace) -> None:
    """End an operation that runs; nothing of it stays but its log."""
    operation = workspace.operations.cancel(workspace.operations.get(identity))
    say(f"{operation.id} is {operation.state}")


def _seconds(operation: Operation) -> str:
    if operation.ended_time is None:
        return ""
    return f"{(operation.ended_time - operation.created_time).total_seconds():.1f}"
