"""What runs on two ports, gRPC's and REST's: from start to a graceful stop."""

import select
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc

from gatecast.serving.data_plane import Limits
from gatecast.serving.health import Health
from gatecast.serving.listening import RestServer, bound, grpc_options, listen_grpc
from gatecast.serving.process import on_signals, tune_malloc

# Threads beyond the pending calls, so that status and health are answered when all others are busy.
_SPARE_THREADS = 8
# For answers that are ready and still on their way out.
_ANSWER_GRACE_S = 2


@dataclass(frozen=True)
class ServerOptions:
    """Where a server listens, and its limits.

    Parameters
    ----------
    host : str
        Address to listen on; only this machine by default.
    port : int
        Of gRPC; 0 takes a free one.
    rest_port : int, optional
        Of REST; 0 takes a free one, None has no REST.
    grace_s : float
        How long calls in flight may take when the server stops.
    limits : Limits
        What one request may ask for, and how many may be pending.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int | None = 8501
    grace_s: float = 30.0
    limits: Limits = field(default_factory=Limits)


class Listening(ABC):
    """Base of what listens on both ports; a context manager that starts and stops.

    Parameters
    ----------
    options : ServerOptions
        Ports and limits.
    name : str
        Of its threads.

    Attributes
    ----------
    port, rest_port : int
        Those that were taken, once it has started.
    """

    def __init__(self, options: ServerOptions, name: str) -> None:
        self._where = options
        self._health = Health()
        self._executor = ThreadPoolExecutor(options.limits.pending + _SPARE_THREADS, name)
        self._grpc: Any = None
        self._rest: RestServer | None = None
        self.port = options.port
        self.rest_port = options.rest_port

    @abstractmethod
    def start(self) -> None:
        """Listen; the ports are set. ServingError if one cannot be had."""

    @abstractmethod
    def stop(self) -> None:
        """Finish the calls in flight and close the ports; new calls are refused as unavailable."""

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT, then stop gracefully and return. Call it from the main thread."""
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

    def _listen(self, handler: grpc.GenericRpcHandler, app: Any) -> None:
        """Take the ports; calls go to the handler, requests to the ASGI application."""
        options = self._where
        if options.rest_port is not None:
            listener = bound(options.host, options.rest_port, "REST", "--rest_api_port")
            self.rest_port = listener.getsockname()[1]
            self._rest = RestServer(app, listener, _ANSWER_GRACE_S)
        self._grpc = grpc.server(
            self._executor, handlers=[handler], options=grpc_options(options.limits.request_bytes)
        )
        self.port = listen_grpc(self._grpc, options.host, options.port)
        self._grpc.start()
        if self._rest:
            self._rest.start()

    def _close(self, drained: bool) -> None:
        """Give the ports back; answers that are ready still go out if all calls have ended."""
        if self._grpc:
            self._grpc.stop(_ANSWER_GRACE_S if drained else None).wait()
        if self._rest:
            self._rest.stop()
        self._executor.shutdown(wait=False)
