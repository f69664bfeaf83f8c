"""How a request gets to a server: one method, over gRPC or in a test."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

import grpc

from gatecast.errors import ServingError
from gatecast.protocol import HINT_TRAILER

LONGEST_HINT = 300

Metadata = Sequence[tuple[str, str]]


class CallError(ServingError):
    """A call that a server refused or that did not reach one.

    `code` is gRPC's name of why; `told` is the server's own hint, None if it gave none.
    """

    def __init__(self, code: str, text: str, told: str | None = None) -> None:
        super().__init__(text, told)
        self.code = code
        self.told = told


class Transport(Protocol):
    """What the client needs: one call, its bytes, and the bytes of the answer."""

    def call(self, path: str, request: bytes, timeout_s: float | None, metadata: Metadata) -> bytes:
        """Return the answer to a call.

        Parameters
        ----------
        path : str
            Of the call: ``/package.Service/Method``.
        request : bytes
            The serialised message.
        timeout_s : float or None
            Deadline.
        metadata : sequence of (str, str)
            Headers.

        Raises
        ------
        CallError
            No answer.
        """

    def close(self) -> None:
        """Let connections go."""


class GrpcTransport:
    """Calls over one gRPC channel, made at the first call.

    Parameters
    ----------
    target : str
        ``HOST:PORT`` or another address that gRPC knows.
    credentials : grpc.ChannelCredentials, optional
        For TLS; without it the channel is plain.
    """

    def __init__(self, target: str, credentials: Any = None) -> None:
        self._target = target
        self._credentials = credentials
        self._channel: Any = None
        self._stubs: dict[str, Any] = {}
        self._lock = threading.Lock()

    def call(self, path: str, request: bytes, timeout_s: float | None, metadata: Metadata) -> bytes:
        """Return the answer to a call; see `Transport`."""
        try:
            answer: bytes = self._stub(path)(request, timeout=timeout_s, metadata=tuple(metadata))
        except grpc.RpcError as error:
            raise CallError(error.code().name, error.details() or "", _hint(error)) from error
        return answer

    def close(self) -> None:
        """Close the channel; the next call makes another."""
        with self._lock:
            channel, self._channel, self._stubs = self._channel, None, {}
        if channel is not None:
            channel.close()

    def _stub(self, path: str) -> Any:
        with self._lock:
            if path not in self._stubs:
                self._stubs[path] = self._open().unary_unary(path)
            return self._stubs[path]

    def _open(self) -> Any:
        if self._channel is None:
            options = [
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 2000),
            ]
            if self._credentials is None:
                self._channel = grpc.insecure_channel(self._target, options)
            else:
                self._channel = grpc.secure_channel(self._target, self._credentials, options)
        return self._channel


def _hint(error: Any) -> str | None:
    """Text of the trailer with a server's hint, on one line and without control characters."""
    for key, value in error.trailing_metadata() or ():
        if key == HINT_TRAILER and isinstance(value, str):
            text = unquote(value)[:LONGEST_HINT]
            return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or None
    return None


class MockTransport:
    """Answers calls by a function, and remembers them: for tests of code that uses the client.

    Parameters
    ----------
    answer : callable
        Takes the path and the request's bytes; returns the answer's bytes, or raises `CallError`.
    """

    def __init__(self, answer: Callable[[str, bytes], bytes]) -> None:
        self._answer = answer
        self.calls: list[tuple[str, bytes, float | None, Metadata]] = []

    def call(self, path: str, request: bytes, timeout_s: float | None, metadata: Metadata) -> bytes:
        """Return what the function answers."""
        self.calls.append((path, request, timeout_s, metadata))
        return self._answer(path, request)

    def close(self) -> None:
        """Do nothing."""
