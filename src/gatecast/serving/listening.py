"""Ports: binding them with errors that help, and serving REST and gRPC on them."""

import errno
import socket
import threading
from typing import Any

import uvicorn

from gatecast.errors import ServingError

_START_TIMEOUT_S = 30.0


def grpc_options(request_bytes: int) -> list[tuple[str, int]]:
    """Return the options of a gRPC server or channel that takes requests of that size."""
    return [
        ("grpc.so_reuseport", 0),  # or two servers would share one port, each with half the requests
        ("grpc.max_receive_message_length", request_bytes),
        ("grpc.max_send_message_length", -1),
        # With gRPC's own windows a 600 KB tensor waits for several round trips.
        ("grpc.http2.max_frame_size", 16777215),
        ("grpc.http2.lookahead_bytes", 8 << 20),
        ("grpc.http2.bdp_probe", 0),
    ]


class RestServer:
    """uvicorn in a thread, on a socket that is bound already; `grace_s` is for answers on their way out."""

    def __init__(self, app: Any, listener: socket.socket, grace_s: int) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=grace_s,
        )
        self._listener = listener
        self._server = _AnnouncedServer(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="gatecast-rest")

    def start(self) -> None:
        """Begin to answer; ServingError if it does not start."""
        self._thread.start()
        if not self._server.announced.wait(_START_TIMEOUT_S):
            raise ServingError("REST server must start, but it did not; the log says why")

    def stop(self) -> None:
        """Answer what has come, close the socket."""
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


def bound(host: str, port: int, face: str, option: str) -> socket.socket:
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
        raise port_error(host, port, face, option, reason) from error
    return listener


def listen_grpc(server: Any, host: str, port: int) -> int:
    """Have a gRPC server listen; return the port, or raise ServingError naming it and a way out."""
    # grpcio says only "failed to bind" and logs to stderr, so a plain socket asks first.
    bound(host, port, "gRPC", "--port").close()
    try:
        return int(server.add_insecure_port(address_of(host, port)))
    except RuntimeError as error:
        raise port_error(host, port, "gRPC", "--port", str(error)) from error


def port_error(host: str, port: int, face: str, option: str, reason: str) -> ServingError:
    """Return the error for a port that cannot be had."""
    return ServingError(
        f"{face} port {port} on {host} must be free to listen on, but {reason}",
        hint=f"Stop what listens there, or choose another port with {option} (0 takes a free one).",
    )


def address_of(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
