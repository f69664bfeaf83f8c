"""Whether a workspace's supervisor runs, and how it is started: one for each workspace, by a lock."""

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from gatecast import __version__

from .launching import Launcher, bound_log, command_lines, send
from .process import Background, Process
from .store import Store

MODULE = "gatecast.workspace.supervisor"
LOG_BYTES, LOG_KEPT = 4 << 20, 1 << 20
_TRIES = 10
_PATIENCE_S = 5.0

_started: list[tuple[Path, Background]] = []
"""Those that this process has started, with their folders, so that it can take note of their end."""


@dataclass(frozen=True)
class Running:
    """A supervisor that runs, and the version of Gatecast that it is of."""

    process: Process
    version: str


class Lock:
    """What only one supervisor of a workspace has; the system takes it back when the process ends."""

    def __init__(self, store: Store) -> None:
        self._path = _lock(store)
        self._handle: int | None = None

    def take(self) -> bool:
        """Take it, unless another process has it; return whether it is held now."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        if _locked(handle):
            self._handle = handle
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{Process.current()} {__version__}\n".encode(), 0)
        else:
            os.close(handle)
        return self._handle is not None

    def is_held(self) -> bool:
        """Whether it is held, and is still that of the workspace: the folder may be another one by now."""
        try:
            return self._handle is not None and os.path.samestat(os.fstat(self._handle), os.stat(self._path))
        except FileNotFoundError:
            return False

    def give_back(self) -> None:
        """Let others take it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def is_running(store: Store) -> bool:
    """Whether a supervisor runs."""
    try:
        handle = os.open(_lock(store), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        # A shared lock: two that ask at once do not take each other for a supervisor.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def running(store: Store) -> Running | None:
    """Return the supervisor that runs, None if there is none, or it has not yet said which it is."""
    if not is_running(store):
        return None
    process, _, version = _lock(store).read_text(encoding="utf-8", errors="replace").strip().partition(" ")
    found = Process.from_text(process)
    return Running(found, version) if found else None


def ensure(store: Store, before: Callable[[], None] | None = None) -> None:
    """Start a supervisor if none runs, and call `before` first; of several that start at once, one stays.

    One that is of another Gatecast than the installed one, from before an upgrade, is ended first: what it
    keeps goes on.
    """
    _forget_ended()
    if is_running(store):
        if not _ended_for_another(store):
            return
    elif any(folder == store.folder for folder, _ in _started):
        return
    if before is not None:
        before()
    log = store.log("supervisor", "supervisor")
    bound_log(log, LOG_BYTES, LOG_KEPT)
    with log.open("ab") as output:
        command = [sys.executable, "-P", "-m", MODULE, str(store.folder)]
        child = Background(command, output, store.root)
    _started.append((store.folder, child))


def _ended_for_another(store: Store) -> bool:
    """End a supervisor of another version; return whether that was done."""
    found = running(store)
    if found is None or found.version == __version__ or _installed() != __version__:
        return False
    with contextlib.suppress(PermissionError):
        send(found.process, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE_S
    while found.process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
        _forget_ended()
    return not is_running(store)


def _installed() -> str:
    """Return the version of Gatecast that a new process would be of; this one may be older."""
    version: str = import_module("importlib.metadata").version("gatecast")
    return version


def supervisors(store: Store) -> list[Process]:
    """Return the supervisors of a workspace, found by their command lines."""
    return [
        Process.of(pid)
        for pid, words in command_lines()
        if MODULE in words and words[-1] == str(store.folder)
    ]


def kill_all(store: Store) -> None:
    """Kill the supervisor and all that it has started, at once; the database stays as it is."""
    first = supervisors(store)  # so that it starts no more
    for process in first:
        send(process, signal.SIGKILL)
    rest = list(Launcher(store).found().values())
    for process in rest:
        send(process, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(process.is_alive() for process in first + rest) and time.monotonic() < deadline:
        time.sleep(0.01)
    _forget_ended()


def _forget_ended() -> None:
    _started[:] = [(folder, child) for folder, child in _started if child.poll() is None]


def _locked(handle: int) -> bool:
    """Take the lock; not at once, as whoever only asks whether it is taken holds it for a moment."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def _lock(store: Store) -> Path:
    store.run.mkdir(exist_ok=True)
    return store.run / "supervisor.lock"
