"""A running server: both faces on their ports, from start to a graceful stop."""

import contextlib
import ctypes
import errno
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import uvicorn

from gatecast.errors import ServingError
from gatecast.serving.data_plane import DataPlane, Limits
from gatecast.serving.grpc_api import GrpcApi
from gatecast.serving.health import Health
from gatecast.serving.models import Models, ModelSource, OpenSession
from gatecast.serving.rest_api import RestApi

logger = logging.getLogger(__name__)

# Threads beyond the pending predictions, so that status and health are answered when all others are busy.
_SPARE_THREADS = 8
_START_TIMEOUT_S = 30.0
# For answers that are ready and still on their way out.
_ANSWER_GRACE_S = 2

# mallopt parameters of glibc: keep large buffers in the heap instead of mapping and faulting them in anew.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


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
        self._rest: _RestServer | None = None
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
        _tune_malloc()
        with _on_signals() as received:
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
            listener = _bound(options.host, options.rest_port, "REST", "--rest_api_port")
            self.rest_port = listener.getsockname()[1]
            app = RestApi(self._plane, self._health)
            self._rest = _RestServer(app, listener)
        self._grpc = self._grpc_server()
        self._grpc.start()
        if self._rest:
            self._rest.start()

    def _grpc_server(self) -> Any:
        options = self._options
        server = grpc.server(
            self._executor,
            handlers=[GrpcApi(self._plane, self._health)],
            options=[
                ("grpc.so_reuseport", 0),  # or two servers would share one port, each with half the requests
                ("grpc.max_receive_message_length", options.limits.request_bytes),
                ("grpc.max_send_message_length", -1),
                # With gRPC's own windows a 600 KB tensor waits for several round trips.
                ("grpc.http2.max_frame_size", 16777215),
                ("grpc.http2.lookahead_bytes", 8 << 20),
                ("grpc.http2.bdp_probe", 0),
            ],
        )
        # grpcio says only "failed to bind" and logs to stderr, so a plain socket asks first.
        _bound(options.host, options.port, "gRPC", "--port").close()
        try:
            self.port = server.add_insecure_port(_address(options.host, options.port))
        except RuntimeError as error:
            raise _port_error(options.host, options.port, "gRPC", "--port", str(error)) from error
        return server


class _RestServer:
    """uvicorn in a thread, on a socket that is bound already."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_ANSWER_GRACE_S,
        )
        self._listener = listener
        self._server = _AnnouncedServer(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="gatecast-rest")

    def start(self) -> None:
        self._thread.start()
        if not self._server.announced.wait(_START_TIMEOUT_S):
            raise ServingError("REST server must start, but it did not; the log says why")

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()


class _AnnouncedServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.announced = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.announced.set()


def _bound(host: str, port: int, face: str, option: str) -> socket.socket:
    """Return a socket that listens on a port, or raise ServingError naming the port and a way out."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ServingError(
            f"Host must be an address of this machine, not {host!r}: {error.strerror}",
            hint="127.0.0.1 serves this machine only, 0.0.0.0 every network it is in.",
        ) from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        reason = "it is in use" if error.errno == errno.EADDRINUSE else str(error.strerror).lower()
        raise _port_error(host, port, face, option, reason) from error
    return listener


def _port_error(host: str, port: int, face: str, option: str, reason: str) -> ServingError:
    return ServingError(
        f"{face} port {port} on {host} must be free to listen on, but {reason}",
        hint=f"Stop what listens there, or choose another port with {option} (0 takes a free one).",
    )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def _on_signals() -> Iterator[socket.socket]:
    """Give a socket from which a byte can be read for each SIGTERM or SIGINT.

    A signal that comes just before a thread begins to wait for a lock does not wake it, and an Event that a
    handler sets can wait for itself. The interpreter writes to this socket at once, whatever runs.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        before = [signal.signal(number, lambda *_: None) for number in numbers]
        try:
            yield reader
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)


def _tune_malloc() -> None:
    """Spare each large request the page faults of a fresh mapping; only glibc has the call."""
    if sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            for parameter, value in (
                (_M_MMAP_THRESHOLD, 1 << 28),
                (_M_TRIM_THRESHOLD, 1 << 29),
                (_M_TOP_PAD, 1 << 24),
            ):
                mallopt(parameter, value)
