"""Whether a workspace's supervisor runs, and how it is started: one for each workspace, by a lock."""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from .launching import Launcher, bound_log, command_lines, send
from .process import Background, Process
from .store import Store

MODULE = "gatecast.workspace.supervisor"
LOG_BYTES, LOG_KEPT = 4 << 20, 1 << 20
_TRIES = 10

_started: list[tuple[Path, Background]] = []
"""Those that this process has started, with their folders, so that it can take note of their end."""


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


def ensure(store: Store) -> None:
    """Start a supervisor if none runs; of several that start at once, one stays."""
    _forget_ended()
    if any(folder == store.folder for folder, _ in _started) or is_running(store):
        return
    log = store.log("supervisor", "supervisor")
    bound_log(log, LOG_BYTES, LOG_KEPT)
    with log.open("ab") as output:
        command = [sys.executable, "-P", "-m", MODULE, str(store.folder)]
        child = Background(command, output, store.root)
    _started.append((store.folder, child))


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
