"""`gatecast route`."""

import logging
from pathlib import Path

import click

from gatecast.serving import FrontDoor, FrontDoorOptions

from . import options
from .readiness import ready_file, tell_ready
from .serve import PORT
from .terminal import say


@click.command("route")
@click.argument("routes", type=options.FILE)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is every network."
)
@click.option("--port", type=PORT, default=8500, show_default=True, help="Of gRPC; 0 takes a free one.")
@click.option(
    "--rest_api_port", type=PORT, default=8501, show_default=True, help="Of REST; 0 takes a free one."
)
@ready_file
def command(routes: Path, host: str, port: int, rest_api_port: int, ready_file: Path | None) -> None:
    """Put one address before many servers.

    ROUTES is a JSON file that names services and where their servers listen; `gatecast service` makes one.
    A change of it is seen at once. A call goes to the service that its header
    x-ms-aml-grpc-service-route or its model's name means, and there to the server with the fewest calls in
    flight; if that one fails before it has answered, to another.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    door = FrontDoor(routes, FrontDoorOptions(host=host, port=port, rest_port=rest_api_port))
    address = f"[{host}]" if ":" in host else host

    def on_ready() -> None:
        tell_ready(ready_file, door.port, door.rest_port)
        say(f"Routing by {routes}: gRPC at {address}:{door.port}, REST at http://{address}:{door.rest_port}")

    door.run(on_ready)
    say("Stopped")
