"""Processes that serve: started so that they outlive who starts them, found again, ended."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .process import Background, Process
from .store import Store

FRONT_DOOR = "front-door"
READY_FILE = "--ready_file"


@dataclass(frozen=True)
class Ports:
    """Where a process says that it answers."""

    port: int
    rest_port: int


class Launcher:
    """Starts the processes of one workspace, each under a name, which its ready file carries.

    The command line of a process holds the path of that file, so that it can be found even if whoever started
    it was killed before it could write down which process it is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.run / "ready"
        self._children: dict[Process, Background] = {}

    def start(self, name: str, arguments: Sequence[str], log: Path) -> Process:
        """Start a command of gatecast; OSError if there is no process to be had."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file(name).unlink(missing_ok=True)
        # -P: what lies in the current folder is not taken for a module.
        command = [sys.executable, "-P", "-m", "gatecast", *arguments, READY_FILE, str(self._file(name))]
        with log.open("ab") as output:
            child = Background(command, output, self._store.root)
        process = Process.of(child.pid)
        self._children[process] = child
        return process

    def ports(self, name: str, process: Process) -> Ports | None:
        """Return the ports of a process that answers; None while it does not yet."""
        try:
            document = json.loads(self._file(name).read_bytes())
            return Ports(document["port"], document["rest_port"]) if document["pid"] == process.pid else None
        except (OSError, ValueError, LookupError):
            return None

    def end(self, process: Process) -> str | None:
        """Return how a process has ended, in words; None while it runs."""
        child = self._children.get(process)
        if child is None:
            return None if process.is_alive() else "ended"
        status = child.poll()
        if status is None:
            return None
        return f"ended with status {status}" if status >= 0 else f"was ended by {_signal(-status)}"

    def forget(self, name: str, process: Process | None) -> None:
        """Drop what is kept of a process that has ended."""
        self._file(name).unlink(missing_ok=True)
        if process is not None:
            self._children.pop(process, None)

    def found(self) -> dict[str, Process]:
        """Return the processes of this workspace that run, by name, whoever started them."""
        return {name: process for name, process in _serving(self._folder) if process.is_alive()}

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal to a process, if it still runs."""
    if process.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def last_lines(log: Path, count: int = 3) -> str:
    """Return the last lines of a log that are not empty, in one line."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 4096, 0))
        lines = file.read().decode(errors="replace").splitlines()
        return " ".join(line.strip() for line in [line for line in lines if line.strip()][-count:])
    return ""


def bound_log(log: Path, most: int, kept: int) -> None:
    """Cut a log that has more than `most` bytes to its last `kept`; whoever writes goes on at its end."""
    with contextlib.suppress(OSError), log.open("r+b") as file:
        if (size := file.seek(0, os.SEEK_END)) > most:
            file.seek(size - kept)
            tail = file.read().partition(b"\n")[2]
            file.seek(0)
            file.truncate()
            file.write(tail)


def command_lines() -> list[tuple[int, list[str]]]:
    """Return number and command line of every process of this machine that may be looked at."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
                found.append((int(entry.name), words[:-1]))
    return found


def _serving(folder: Path) -> list[tuple[str, Process]]:
    found = []
    for pid, words in command_lines():
        if READY_FILE in words[:-1]:
            path = Path(words[words.index(READY_FILE) + 1])
            if path.parent == folder:
                found.append((path.stem, Process.of(pid)))
    return found


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
