"""`gatecast service`: images that run."""

from collections.abc import Callable
from typing import Any

import click

from gatecast.errors import WorkspaceError
from gatecast.workspace import Service, ServiceState, Workspace

from . import options, records
from .terminal import print_json, print_table, print_text, say

LOG_LINES = 20
"""Lines of the log that are shown when a service has failed."""

IMAGE = "NAME[:VERSION]"
COUNT = click.IntRange(min=1)
Filter = list[tuple[str, str | None]]


@click.group("service")
def command() -> None:
    """Run images as services, change them, look at them, end them."""


def waiting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--no-wait` and `--timeout`."""
    for option in (
        click.option(
            "--timeout",
            type=click.FloatRange(min=0),
            default=300.0,
            show_default=True,
            metavar="S",
            help="Seconds to wait.",
        ),
        click.option("--no-wait", is_flag=True, help="Return at once; `service show` tells the state."),
    ):
        command = option(command)
    return command


@command.command()
@click.argument("name")
@click.option("--image", metavar=IMAGE, required=True, help="What to run.")
@click.option("--compute", metavar="NAME", required=True, help="Where to run it.")
@click.option("--replicas", type=COUNT, default=1, show_default=True, help="Servers; each takes a node.")
@click.option(
    "--threads", type=COUNT, show_default="a node's share of the processors", help="Of each server."
)
@records.labels
@waiting
@records.workspace
@options.as_json
def deploy(
    name: str,
    image: str,
    compute: str,
    replicas: int,
    threads: int | None,
    tags: dict[str, str],
    properties: dict[str, str],
    description: str,
    no_wait: bool,
    timeout: float,
    workspace: Workspace,
    json_: bool,
) -> None:
    """Run an image as a service, and keep it running.

    Its replicas are processes of this machine that are started again when they die. They answer under one
    address for all services of the workspace: by the header x-ms-aml-grpc-service-route, or by the name of
    the service or of its model.
    """
    service = workspace.services.deploy(
        name,
        image,
        compute,
        replicas=replicas,
        threads=threads,
        tags=tags,
        properties=properties,
        description=description,
    )
    _tell(workspace, service, no_wait, timeout, json_)


@command.command()
@click.argument("name")
@click.option("--image", metavar=IMAGE, help="Run this instead.")
@click.option("--replicas", type=COUNT, help="So many servers.")
@click.option("--threads", type=COUNT, help="So many in each server.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Tag to set. May be repeated.")
@click.option("--remove-tag", "removed", multiple=True, metavar="KEY", help="Tag to take away.")
@click.option("--description", metavar="TEXT", help="New description.")
@waiting
@records.workspace
@options.as_json
def update(
    name: str,
    image: str | None,
    replicas: int | None,
    threads: int | None,
    tags: tuple[str, ...],
    removed: tuple[str, ...],
    description: str | None,
    no_wait: bool,
    timeout: float,
    workspace: Workspace,
    json_: bool,
) -> None:
    """Change a service while it goes on answering: each new replica is ready before an old one ends."""
    if all(value in (None, ()) for value in (image, replicas, threads, tags, removed, description)):
        raise click.UsageError(
            "Something must change: --image, --replicas, --threads, --tag, --remove-tag or --description."
        )
    service = workspace.services.update(
        workspace.services.get(name),
        image=image,
        replicas=replicas,
        threads=threads,
        add_tags=records.named(tags, "--tag"),
        remove_tags=removed,
        description=description,
    )
    _tell(workspace, service, no_wait, timeout, json_)


@command.command("list")
@records.filters
@records.workspace
@options.as_json
def list_(tags: Filter, properties: Filter, workspace: Workspace, json_: bool) -> None:
    """List the services."""
    services = workspace.services.list(tags=tags, properties=properties)
    if json_:
        print_json([records.plain(service) for service in services])
    elif not services:
        say("No services" if not (tags or properties) else "No such services")
    else:
        print_table(COLUMNS, [row(service) for service in services])


@command.command()
@click.argument("name")
@click.option("--uri", is_flag=True, help="Print only the address, for scripts.")
@records.workspace
@options.as_json
def show(name: str, uri: bool, workspace: Workspace, json_: bool) -> None:
    """Show a service and its replicas."""
    service = workspace.services.get(name)
    if uri:
        if service.scoring_uri is None:
            raise WorkspaceError(
                f"Service {name} must have an address, but is {service.state}",
                hint=f"`gatecast service show {name}` tells how far it is.",
            )
        print_text(service.scoring_uri)
        return
    replicas = workspace.services.replicas(service)
    if json_:
        print_json(records.plain(service, replica_list=[records.plain(replica) for replica in replicas]))
        return
    records.print_record(
        {
            "service": service.name,
            "state": service.state,
            "reason": service.reason,
            "scoring uri": service.scoring_uri or "none yet",
            "rest uri": service.rest_uri or "none yet",
            "image": service.image,
            "models": ", ".join(service.models),
            "compute": service.compute,
            "replicas": f"{service.ready} of {service.replicas} ready",
            "threads": service.threads or "a node's share",
            "created": records.moment(service.created_time),
            "updated": records.moment(service.updated_time),
            "tags": records.words(service.tags),
            "properties": records.words(service.properties),
            "description": service.description,
        }
    )
    if replicas:
        print_text("")
        print_table(*replica_table(workspace, service))


@command.command()
@click.argument("name")
@click.option("--lines", type=COUNT, default=5000, show_default=True, help="At most so many, the last.")
@records.workspace
def logs(name: str, lines: int, workspace: Workspace) -> None:
    """Print what the replicas of a service wrote, and what happened to them."""
    click.echo(workspace.services.logs(workspace.services.get(name), lines), nl=False)


@command.command()
@click.argument("name")
@records.workspace
def delete(name: str, workspace: Workspace) -> None:
    """End a service, once it has finished the calls in flight."""
    workspace.services.delete(workspace.services.get(name))
    say(f"Deleted service {name}")


COLUMNS = ("service", "state", "image", "compute", ">ready", "scoring uri", "reason")


def row(service: Service) -> tuple[object, ...]:
    """Return the row of a service under COLUMNS."""
    ready = f"{service.ready}/{service.replicas}"
    uri = service.scoring_uri or ""
    return (service.name, service.state, service.image, service.compute, ready, uri, service.reason)


def replica_table(
    workspace: Workspace, service: Service | None = None
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return columns and rows of the replicas of a service, or of all."""
    rows: list[tuple[object, ...]] = [
        (
            f"{replica.service}.{replica.id}",
            replica.state,
            replica.image,
            replica.node,
            replica.process.pid if replica.process else "",
            replica.address,
            records.moment(replica.created_time),
        )
        for replica in workspace.services.replicas(service)
    ]
    return ("replica", "state", "image", ">node", ">process", "address", "started"), rows


def _tell(workspace: Workspace, service: Service, no_wait: bool, timeout: float, json_: bool) -> None:
    """Wait, show how it goes, print the service; if it is not healthy an error, after the end of its log."""
    if not no_wait:
        shown: list[tuple[str, str]] = []

        def show_change(now: Service) -> None:
            if (now.state, now.reason) not in shown:
                shown.append((now.state, now.reason))
                say(f"Service {now.name}: {now.state}{f', {now.reason}' if now.reason else ''}")

        service = workspace.services.wait(service, timeout, show_change)
        if service.state is not ServiceState.HEALTHY:
            raise _failure(workspace, service, timeout)
    if json_:
        print_json(records.plain(service))
    else:
        print_text(service.scoring_uri or "")


def _failure(workspace: Workspace, service: Service, timeout: float) -> WorkspaceError:
    for line in workspace.services.logs(service, LOG_LINES).splitlines():
        say(f"  {line}")
    if service.state is ServiceState.TRANSITIONING:
        so_far = f": {service.reason}" if service.reason else ""
        text = f"Service {service.name} must be healthy within {timeout:.3g} s, but is not{so_far}"
        return WorkspaceError(text, hint=f"It goes on: `gatecast service show {service.name}`.")
    return WorkspaceError(
        f"Service {service.name} must be healthy, but is {service.state}: {service.reason}",
        hint=f"`gatecast service logs {service.name}` shows more; `… update` or `… delete` it.",
    )
