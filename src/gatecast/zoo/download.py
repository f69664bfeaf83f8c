"""Files over HTTPS: resumed after a cut, checked by digest, bounded in time and size."""

import fcntl
import hashlib
import http.client
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gatecast.errors import DownloadError

MAX_BYTES = 2**31
"""Of one file."""

CHUNK = 2**16
Progress = Callable[[int, int | None], None]
"""Called with the bytes so far, and of the whole file where that is known."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long to wait and how often to try.

    `connect_s` bounds finding the name, connecting and greeting together; `stall_s` bounds each wait for more
    bytes. Only a transfer that broke, or a server's passing fault, is tried again.
    """

    connect_s: float = 4.0
    stall_s: float = 10.0
    attempts: int = 5
    pause_s: float = 0.5


class UnreachableError(DownloadError):
    """The server could not be reached at all: no name, no route, no answer. Not tried again."""


class _BrokenError(DownloadError):
    """The transfer broke on its way; worth another attempt."""


@dataclass
class _Transfer:
    address: str
    part: Path
    sha256: str
    size: int | None
    limits: Limits
    progress: Progress | None
    etag: str = field(default="")


def download(
    address: str,
    target: Path,
    *,
    sha256: str = "",
    size: int | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> str:
    """Fetch `address` into the file `target` and return its SHA-256.

    Bytes gather in ``target.part``; the file gets its name when it is whole and as published. After a cut the
    rest is asked for, also in a later call if `sha256` can prove that the parts fit.

    Parameters
    ----------
    sha256 : str
        The published digest in hexadecimal, or the first digits of it.
    size : int, optional
        The published size.

    Raises
    ------
    UnreachableError
        No connection within ``limits.connect_s``.
    DownloadError
        The server refuses, keeps breaking off or stalling, or sends something else than published; nothing
        wrong is kept.
    """
    _check_scheme(address)
    part = target.with_name(target.name + ".part")
    transfer = _Transfer(address, part, sha256.lower(), size, limits or Limits(), progress)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            return _fill(transfer, file, target)
    except OSError as error:
        raise DownloadError(f"File {target} must be writable: {_reason(error)}") from error


def _fill(transfer: _Transfer, file: IO[bytes], target: Path) -> str:
    _lock(file, transfer)
    if not transfer.sha256:
        file.truncate(0)
    try:
        _fetch_all(transfer, file)
        digest = _verified(transfer)
        os.fsync(file.fileno())
        os.replace(transfer.part, target)
    finally:
        if transfer.part.exists() and not transfer.part.stat().st_size:
            transfer.part.unlink()
    return digest


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_scheme(address: str) -> None:
    url = urllib.parse.urlsplit(address)
    if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK):
        raise DownloadError(f"Address must begin with https://, not {address}")


def _lock(file: IO[bytes], transfer: _Transfer) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DownloadError(
            f"File {transfer.part} must be written by one process at a time, but another downloads it",
            hint="Wait until the other download has ended, then try again.",
        ) from error


def _fetch_all(transfer: _Transfer, file: IO[bytes]) -> None:
    """Ask for the rest until there is no more, at most ``limits.attempts`` times."""
    for attempt in range(1, transfer.limits.attempts + 1):
        try:
            _fetch_rest(transfer, file)
            return
        except _BrokenError as error:
            if attempt == transfer.limits.attempts:
                raise DownloadError(f"{error}; given up after {attempt} attempts") from error
            time.sleep(transfer.limits.pause_s * 2 ** (attempt - 1))


def _fetch_rest(transfer: _Transfer, file: IO[bytes]) -> None:
    have = file.seek(0, os.SEEK_END)
    headers = {"User-Agent": "gatecast", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if transfer.etag:
            headers["If-Range"] = transfer.etag
    try:
        with _open(urllib.request.Request(transfer.address, headers=headers), transfer.limits) as reply:
            _receive(transfer, file, reply, have)
    except urllib.error.HTTPError as error:
        with error:
            _handle_status(transfer, file, error, have)
    except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        got = file.seek(0, os.SEEK_END)
        raise _BrokenError(
            f"{transfer.address}: transfer broke after {got} bytes: {_reason(error)}"
        ) from error
    except urllib.error.URLError as error:
        raise UnreachableError(f"{transfer.address}: not reached: {_reason(error.reason)}") from error


def _open(request: urllib.request.Request, limits: Limits) -> Any:
    class _Http(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(_connection(http.client.HTTPConnection, limits), req)

    class _Https(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> Any:
            context = ssl.create_default_context()
            return self.do_open(_connection(http.client.HTTPSConnection, limits), req, context=context)

    opener = urllib.request.build_opener(_Http, _Https, _Redirects)
    return opener.open(request, timeout=limits.stall_s)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows only to addresses that could have been asked for."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        try:
            _check_scheme(newurl)
        except DownloadError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _connection(kind: Any, limits: Limits) -> Any:
    """Return a class of connections that keeps to `connect_s` until it is open, and to `stall_s` after."""

    class _Bounded(kind):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "timeout": limits.connect_s})
            deadline = time.monotonic() + limits.connect_s
            self._create_connection = lambda address, *_: _connect(address, deadline)

        def connect(self) -> None:
            try:
                super().connect()
            except TimeoutError as error:
                raise OSError(f"no connection within {limits.connect_s:g} s") from error
            self.sock.settimeout(limits.stall_s)

    return _Bounded


def _connect(address: tuple[str, int], deadline: float) -> socket.socket:
    """Connect to the first of a name's addresses that answers before the deadline."""
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, place in _resolve(*address, deadline):
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            sock.connect(place)
        except OSError as error:
            failure = error
            sock.close()
        else:
            sock.settimeout(max(0.01, deadline - time.monotonic()))
            return sock
    raise failure


def _resolve(host: str, port: int, deadline: float) -> Any:
    """Find the addresses of a name; in a thread, because the C library may take a minute over it."""
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if not found:
        raise OSError(f"the name {host} was not found in time")
    if isinstance(found[0], OSError):
        raise OSError(f"the name {host} was not found: {_reason(found[0])}")
    return found[0]


def _receive(transfer: _Transfer, file: IO[bytes], reply: Any, have: int) -> None:
    if reply.status != http.HTTPStatus.PARTIAL_CONTENT or _range_start(reply) != have:
        file.truncate(0)
        have = 0
    transfer.etag = reply.headers.get("ETag", "")
    length = reply.headers.get("Content-Length")
    whole = have + int(length) if length and length.isdecimal() else None
    _check_size(transfer, whole)
    while chunk := reply.read1(CHUNK):
        have += len(chunk)
        if have > MAX_BYTES:
            _check_size(transfer, have)
        file.write(chunk)
        if transfer.progress:
            transfer.progress(have, whole)
    file.flush()
    if whole is not None and have < whole:
        raise _BrokenError(f"{transfer.address}: transfer broke after {have} of {whole} bytes")


def _range_start(reply: Any) -> int:
    text = str(reply.headers.get("Content-Range", "")).removeprefix("bytes ").partition("-")[0]
    return int(text) if text.isdecimal() else -1


def _check_size(transfer: _Transfer, whole: int | None) -> None:
    if whole is None or (whole == transfer.size if transfer.size else whole <= MAX_BYTES):
        return
    transfer.part.unlink(missing_ok=True)
    expected = f"{transfer.size} bytes" if transfer.size else f"at most {MAX_BYTES} bytes"
    raise DownloadError(f"{transfer.address} must have {expected}, not {whole}")


def _handle_status(transfer: _Transfer, file: IO[bytes], error: urllib.error.HTTPError, have: int) -> None:
    """Return if the file turns out to be whole; raise what fits otherwise."""
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return
        file.truncate(0)
        raise _BrokenError(f"{transfer.address}: the part kept from before does not fit") from error
    text = f"{transfer.address}: the server answers {error.code} {error.reason}"
    if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR or error.code in (408, 425, 429):
        raise _BrokenError(text) from error
    raise DownloadError(text) from error


def _verified(transfer: _Transfer) -> str:
    digest = file_sha256(transfer.part)
    if not digest.startswith(transfer.sha256):
        transfer.part.unlink()
        raise DownloadError(
            f"{transfer.address} must have the SHA-256 {transfer.sha256}, not {digest}; it was not kept",
            hint="Try again; if it stays so, the file at the source is no longer the published one.",
        )
    return digest


def _reason(error: object) -> str:
    """Return what went wrong, in words where the system has some."""
    if isinstance(error, TimeoutError):
        return "no bytes in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
