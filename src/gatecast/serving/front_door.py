"""One address for many services: routes each call to a replica of the service that it means."""

import select
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from gatecast.serving.balancer import Balancer
from gatecast.serving.data_plane import Limits
from gatecast.serving.gate import Gate
from gatecast.serving.grpc_proxy import GrpcProxy
from gatecast.serving.health import Health
from gatecast.serving.listening import RestServer, bound, grpc_options, listen_grpc
from gatecast.serving.process import on_signals, tune_malloc
from gatecast.serving.rest_proxy import RestProxy

# Threads beyond the pending calls, so that health is answered when all others are busy.
_SPARE_THREADS = 8
# For answers that are ready and still on their way out.
_ANSWER_GRACE_S = 2
# How often the routes file is looked at; a call that finds no replica looks at once.
_REFRESH_S = 0.05


@dataclass(frozen=True)
class FrontDoorOptions:
    """Where a front door listens, and its limits.

    Parameters
    ----------
    host : str
        Address to listen on; only this machine by default.
    port : int
        Of gRPC; 0 takes a free one.
    rest_port : int, optional
        Of REST; 0 takes a free one, None has no REST.
    grace_s : float
        How long calls in flight may take when the front door stops.
    timeout_s : float
        Longest time for an answer; a caller's deadline may be sooner.
    limits : Limits
        Of requests and answers, and how many calls are passed on at a time.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int | None = 8501
    grace_s: float = 30.0
    timeout_s: float = 300.0
    limits: Limits = field(default_factory=lambda: Limits(pending=256))


class FrontDoor:
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
        limits = self._options.limits
        self._balancer = Balancer(routes, limits.request_bytes)
        self._health = Health()
        self._gate = Gate(limits.pending)
        self._executor = ThreadPoolExecutor(limits.pending + _SPARE_THREADS, "gatecast-route")
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="gatecast-routes")
        self._grpc: Any = None
        self._rest: RestServer | None = None
        self.port = self._options.port
        self.rest_port = self._options.rest_port

    def start(self) -> None:
        """Listen; the attributes `port` and `rest_port` are set. ServingError if a port cannot be had."""
        try:
            self._listen()
        except BaseException:
            self.stop()
            raise
        self._watcher.start()
        self._health.ready = True

    def stop(self) -> None:
        """Finish the calls in flight and close the ports; new calls are refused as unavailable."""
        self._health.ready = False
        drained = self._gate.drain(self._options.grace_s)
        if self._grpc:
            self._grpc.stop(_ANSWER_GRACE_S if drained else None).wait()
        if self._rest:
            self._rest.stop()
        self._executor.shutdown(wait=False)
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._balancer.close()

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Pass calls on until SIGTERM or SIGINT, then stop gracefully. Call it from the main thread."""
        tune_malloc()
        with on_signals() as received:
            self.start()
            try:
                if not select.select([received], [], [], 0)[0]:
                    on_ready()
                received.recv(1)
            finally:
                self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _watch(self) -> None:
        while not self._stopping.wait(_REFRESH_S):
            self._balancer.refresh()

    def _listen(self) -> None:
        options, limits = self._options, self._options.limits
        if options.rest_port is not None:
            listener = bound(options.host, options.rest_port, "REST", "--rest_api_port")
            self.rest_port = listener.getsockname()[1]
            app = RestProxy(self._balancer, self._health, self._gate, limits, options.timeout_s)
            self._rest = RestServer(app, listener, _ANSWER_GRACE_S)
        proxy = GrpcProxy(self._balancer, self._health, self._gate, options.timeout_s)
        self._grpc = grpc.server(self._executor, handlers=[proxy], options=grpc_options(limits.request_bytes))
        self.port = listen_grpc(self._grpc, options.host, options.port)
        self._grpc.start()
        if self._rest:
            self._rest.start()
