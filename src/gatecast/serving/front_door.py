"""One address for many services: routes each call to a replica of the service that it means."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from gatecast.serving.balancer import Balancer
from gatecast.serving.data_plane import Limits
from gatecast.serving.gate import Gate
from gatecast.serving.grpc_proxy import GrpcProxy
from gatecast.serving.rest_proxy import RestProxy
from gatecast.serving.running import Listening, ServerOptions

# How often the routes file is looked at; a call that finds no replica looks at once.
_REFRESH_S = 0.05


@dataclass(frozen=True)
class FrontDoorOptions(ServerOptions):
    """Where a front door listens, and its limits: those of requests and answers, and of calls at a time.

    Parameters
    ----------
    timeout_s : float
        Longest time for an answer; a caller's deadline may be sooner.
    """

    limits: Limits = field(default_factory=lambda: Limits(pending=256))
    timeout_s: float = 300.0


class FrontDoor(Listening):
    """Listens for gRPC and REST, and passes calls on by a routes file.

    Parameters
    ----------
    routes : Path
        The file; it is read again when it changes.
    options : FrontDoorOptions
        Ports and limits.

    Raises
    ------
    FileError
        The routes file is missing or not well formed.
    """

    def __init__(self, routes: Path, options: FrontDoorOptions | None = None) -> None:
        self._options = options or FrontDoorOptions()
        super().__init__(self._options, "gatecast-route")
        limits = self._options.limits
        self._balancer = Balancer(routes, limits.request_bytes)
        self._gate = Gate(limits.pending)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="gatecast-routes")

    def start(self) -> None:
        """Listen; the attributes `port` and `rest_port` are set. ServingError if a port cannot be had."""
        timeout_s, limits = self._options.timeout_s, self._options.limits
        try:
            self._listen(
                GrpcProxy(self._balancer, self._health, self._gate, timeout_s),
                RestProxy(self._balancer, self._health, self._gate, limits, timeout_s),
            )
        except BaseException:
            self.stop()
            raise
        self._watcher.start()
        self._health.ready = True

    def stop(self) -> None:
        """Finish the calls in flight and close the ports; new calls are refused as unavailable."""
        self._health.ready = False
        self._close(self._gate.drain(self._options.grace_s))
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._balancer.close()

    def _watch(self) -> None:
        while not self._stopping.wait(_REFRESH_S):
            self._balancer.refresh()
