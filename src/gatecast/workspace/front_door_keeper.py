"""Keeps the front door of a workspace: one process at one address, with the routes as they are."""

import errno
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gatecast.files import write_whole

from .launching import FRONT_DOOR, Launcher, bound_log, last_lines, send
from .planning import pause_s
from .process import Process
from .store import Store

logger = logging.getLogger(__name__)

PORT_VARIABLE = "GATECAST_SCORING_PORT"
DEFAULT_PORT = 80
REST_PORT = 8501
MOST_HOSTS = 254
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
LOG_BYTES, LOG_KEPT = 4 << 20, 1 << 20
VERSION = 1
_TRIES = 2


@dataclass(frozen=True)
class Address:
    """Where a front door listens; port 0 is any that is free."""

    host: str = "127.0.0.1"
    port: int = 0
    rest_port: int = 0


@dataclass(frozen=True)
class RoutedService:
    """What the routes file says of a service: other names, and (address, REST address) of its replicas."""

    name: str
    models: Sequence[str]
    replicas: Sequence[tuple[str, str]]


class FrontDoorKeeper:
    """Starts the front door, starts it again where it was, writes its routes, ends it.

    Parameters
    ----------
    store : Store
        Of the workspace.
    launcher : Launcher
        Starts processes.
    """

    def __init__(self, store: Store, launcher: Launcher) -> None:
        self._store = store
        self._launcher = launcher
        self._routes = store.run / "routes.json"
        self._log = store.log("front-door", FRONT_DOOR)
        self._written: bytes | None = None
        self._failures = 0
        self._next_start = 0.0
        self._started = 0.0
        self._stopping: tuple[Process, float] | None = None
        self.problem = ""

    @property
    def process(self) -> Process | None:
        """The process, if there should be one."""
        row = self._row()
        return Process.from_text(row["process"]) if row else None

    @property
    def rest_address(self) -> str | None:
        """Where it answers over REST, as HOST:PORT; None if it does not."""
        row = self._row()
        return f"{row['host']}:{row['rest_port']}" if row and row["ready"] else None

    def keep(self, services: Sequence[RoutedService]) -> bool:
        """Do the next step for a front door before these services; return whether it answers."""
        self._write(services)
        row = self._row()
        process = Process.from_text(row["process"]) if row else None
        if process is not None and self._launcher.end(process) is None:
            if self._is_stopping(process):
                return False
            return bool(row and row["ready"]) or self._is_ready(process)
        if process is not None:
            self._note_end(process, bool(row and row["ready"]))
        if time.monotonic() >= self._next_start:
            address = _address(row, self._failures)
            self._start(address, is_known=bool(row and row["known"]) and address == _address(row, 0))
        return False

    def end(self) -> bool:
        """Do the next step to its end; return whether it has ended."""
        row = self._row()
        process = Process.from_text(row["process"]) if row else None
        if process is not None and self._launcher.end(process) is None:
            now = time.monotonic()
            if self._stopping is None or not self._is_stopping(process):
                self._stopping = (process, now)
                send(process, signal.SIGTERM)
            elif now - self._stopping[1] > STOP_TIMEOUT_S:
                send(process, signal.SIGKILL)
            return False
        if row:
            self._launcher.forget(FRONT_DOOR, process)
            with self._store.transaction() as database:
                database.execute("DELETE FROM front_door")
        self._stopping = None
        self._routes.unlink(missing_ok=True)
        self._written = None
        return True

    def _is_stopping(self, process: Process) -> bool:
        """Whether this very process was told to end: one that was started since was not."""
        return self._stopping is not None and self._stopping[0] == process

    def bound_log(self) -> None:
        """Keep its log small."""
        bound_log(self._log, LOG_BYTES, LOG_KEPT)

    def _write(self, services: Sequence[RoutedService]) -> None:
        document = {
            "version": VERSION,
            "services": {
                service.name: {
                    "models": list(service.models),
                    "replicas": [{"address": grpc, "rest_address": rest} for grpc, rest in service.replicas],
                }
                for service in services
            },
        }
        text = json.dumps(document, indent=1).encode()
        if text != self._written or not self._routes.exists():
            write_whole(self._routes, [text], "Routes file")
            self._written = text

    def _start(self, address: Address, is_known: bool) -> None:
        arguments = ["route", str(self._routes), "--host", address.host, "--port", str(address.port)]
        arguments += ["--rest_api_port", str(address.rest_port)]
        try:
            process = self._launcher.start(FRONT_DOOR, arguments, self._log)
        except OSError as error:
            self._fail(f"no process can be started: {error.strerror}")
            return
        self._started = time.monotonic()
        logger.info("Front door: process %s for %s", process.pid, address)
        with self._store.transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO front_door VALUES (1, ?, ?, ?, ?, 0, ?)",
                (str(process), address.host, address.port, address.rest_port, is_known),
            )

    def _is_ready(self, process: Process) -> bool:
        ports = self._launcher.ports(FRONT_DOOR, process)
        if ports is None:
            if self._started and time.monotonic() - self._started > START_TIMEOUT_S:
                send(process, signal.SIGKILL)
            return False
        self._failures, self.problem = 0, ""
        with self._store.transaction() as database:
            database.execute(
                "UPDATE front_door SET port = ?, rest_port = ?, ready = 1, known = 1",
                (ports.port, ports.rest_port),
            )
        return True

    def _note_end(self, process: Process, was_ready: bool) -> None:
        end = self._launcher.end(process)
        self._launcher.forget(FRONT_DOOR, process)
        with self._store.transaction() as database:
            database.execute("UPDATE front_door SET process = '', ready = 0")
        if was_ready:
            logger.warning("Front door %s; starting it again", end)
            self._failures = 0
        else:
            self._fail(f"{end}: {last_lines(self._log)}")

    def _fail(self, reason: str) -> None:
        self._failures += 1
        self._next_start = time.monotonic() + pause_s(self._failures)
        self.problem = f"Front door {reason}"
        logger.warning(self.problem)

    def _row(self) -> Any:
        with self._store.reading() as database:
            return database.execute("SELECT * FROM front_door").fetchone()


def _address(before: Any, failures: int) -> Address:
    """Return where to listen: where it was, else on the port for scoring, and if that fails on any."""
    if before and before["port"] and failures < _TRIES:
        return Address(before["host"], before["port"], before["rest_port"])
    port = _scoring_port()
    host = free_host(port) if port and failures < 2 * _TRIES else None
    if host is None:
        return Address()
    return Address(host, port, REST_PORT if _may_bind(host, REST_PORT) else 0)


def free_host(port: int) -> str | None:
    """Return the first address 127.0.0.N where a port may be bound and is free; None if there is none."""
    for number in range(1, MOST_HOSTS + 1):
        host = f"127.0.0.{number}"
        try:
            _bind(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return None
        else:
            return host
    return None


def _may_bind(host: str, port: int) -> bool:
    try:
        _bind(host, port)
    except OSError:
        return False
    return True


def _bind(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen()


def _scoring_port() -> int:
    text = os.environ.get(PORT_VARIABLE, "")
    return int(text) if text.isdecimal() and int(text) < 1 << 16 else DEFAULT_PORT
