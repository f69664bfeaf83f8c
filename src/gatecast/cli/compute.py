"""`gatecast compute`: where services run."""

import click

from gatecast.workspace import Workspace

from . import options, records
from .terminal import count, print_json, print_table, say


@click.group("compute")
def command() -> None:
    """Make and show computes, on which services run."""


@command.command()
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(["local"]), default="local", show_default=True, help="local: this machine."
)
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Replicas it takes.")
@records.labels
@records.workspace
@options.as_json
def create(
    name: str,
    kind: str,
    nodes: int,
    tags: dict[str, str],
    properties: dict[str, str],
    description: str,
    workspace: Workspace,
    json_: bool,
) -> None:
    """Make a compute.

    A local compute is this machine, divided into nodes. A node takes one replica of a service, and its memory
    is the machine's divided by the nodes.
    """
    compute = workspace.computes.create(
        name, kind, nodes, tags=tags, properties=properties, description=description
    )
    if json_:
        print_json(records.plain(compute))
    say(f"Created compute {compute.name}, {compute.kind}, nodes: {compute.nodes}")


@command.command("list")
@records.workspace
@options.as_json
def list_(workspace: Workspace, json_: bool) -> None:
    """List the computes."""
    computes = workspace.computes.list()
    if json_:
        print_json([records.plain(compute) for compute in computes])
        return
    if not computes:
        say("No computes")
        return
    print_table(*table(workspace))


@command.command()
@click.argument("name")
@records.workspace
@options.as_json
def show(name: str, workspace: Workspace, json_: bool) -> None:
    """Show a compute and the services on it."""
    compute = workspace.computes.get(name)
    services = [service.name for service in workspace.services.list() if service.compute == compute.name]
    if json_:
        print_json(records.plain(compute, services=services))
        return
    records.print_record(
        {
            "compute": compute.name,
            "kind": compute.kind,
            "nodes": count(compute.nodes),
            "state": compute.state,
            "created": records.moment(compute.created_time),
            "tags": records.words(compute.tags),
            "properties": records.words(compute.properties),
            "description": compute.description,
            "services": ", ".join(services),
        }
    )


@command.command()
@click.argument("name")
@records.workspace
def delete(name: str, workspace: Workspace) -> None:
    """Delete a compute that has no services."""
    workspace.computes.delete(workspace.computes.get(name))
    say(f"Deleted compute {name}")


def table(workspace: Workspace) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return columns and rows of all computes."""
    services = workspace.services.list()
    rows: list[tuple[object, ...]] = []
    for compute in workspace.computes.list():
        here = [service for service in services if service.compute == compute.name]
        used = sum(service.replicas for service in here)
        names = ", ".join(service.name for service in here)
        rows.append((compute.name, compute.kind, compute.nodes, compute.nodes - used, compute.state, names))
    return ("compute", "kind", ">nodes", ">free", "state", "services"), rows
