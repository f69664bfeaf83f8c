"""A running server: both faces on their ports, from start to a graceful stop."""

import logging
import select
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc

from gatecast.serving.data_plane import DataPlane, Limits
from gatecast.serving.grpc_api import GrpcApi
from gatecast.serving.health import Health
from gatecast.serving.listening import RestServer, bound, grpc_options, listen_grpc
from gatecast.serving.models import Models, ModelSource, OpenSession
from gatecast.serving.process import on_signals, tune_malloc
from gatecast.serving.rest_api import RestApi

logger = logging.getLogger(__name__)

# Threads beyond the pending predictions, so that status and health are answered when all others are busy.
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
        How long requests in flight may take when the server stops.
    limits : Limits
        What one request may ask for.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int | None = 8501
    grace_s: float = 30.0
    limits: Limits = field(default_factory=Limits)


class Server:
    """Serves models over gRPC and REST.

    Parameters
    ----------
    sources : sequence of ModelSource
        What to serve.
    open_session : callable
        Opens the artifact at a path, as `gatecast.runtime` does.
    options : ServerOptions
        Ports and limits.

    Raises
    ------
    FileError
        A source has no artifact.
    """

    def __init__(
        self, sources: Sequence[ModelSource], open_session: OpenSession, options: ServerOptions | None = None
    ) -> None:
        self._options = options or ServerOptions()
        self._health = Health()
        self.models = Models(sources, open_session)
        self._plane = DataPlane(self.models, self._options.limits)
        self._executor = ThreadPoolExecutor(self._options.limits.pending + _SPARE_THREADS, "gatecast-grpc")
        self._grpc: Any = None
        self._rest: RestServer | None = None
        self.port = self._options.port
        self.rest_port = self._options.rest_port

    @property
    def ready(self) -> bool:
        """Whether models are loaded and requests are taken."""
        return self._health.ready

    def start(self) -> None:
        """Listen, load the models, then be ready; the attributes `port` and `rest_port` are set.

        Raises
        ------
        ServingError
            A port cannot be had.
        GatecastError
            A model cannot be loaded.
        """
        try:
            self._listen()
            self.models.load()
        except BaseException:
            self.stop()
            raise
        self._health.ready = True

    def stop(self) -> None:
        """Finish the predictions in flight, close the ports, unload the models.

        Meanwhile the server says that it is not ready, and refuses new predictions as unavailable. What
        takes longer than the grace is left behind.
        """
        self._health.ready = False
        drained = self._plane.drain(self._options.grace_s)
        if self._grpc:
            self._grpc.stop(_ANSWER_GRACE_S if drained else None).wait()
        if self._rest:
            self._rest.stop()
        self._executor.shutdown(wait=False)
        if drained:
            self.models.unload()
        else:
            logger.warning(
                "Predictions still run after %.3g s; their models stay loaded", self._options.grace_s
            )

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

    def _listen(self) -> None:
        options = self._options
        if options.rest_port is not None:
            listener = bound(options.host, options.rest_port, "REST", "--rest_api_port")
            self.rest_port = listener.getsockname()[1]
            app = RestApi(self._plane, self._health)
            self._rest = RestServer(app, listener, _ANSWER_GRACE_S)
        self._grpc = self._grpc_server()
        self._grpc.start()
        if self._rest:
            self._rest.start()

    def _grpc_server(self) -> Any:
        options = self._options
        server = grpc.server(
            self._executor,
            handlers=[GrpcApi(self._plane, self._health)],
            options=grpc_options(options.limits.request_bytes),
        )
        self.port = listen_grpc(server, options.host, options.port)
        return server
