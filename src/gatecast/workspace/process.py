"""Which process: its number and its start, so that a number given to another process later is no mistake."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class Process:
    """One process of this machine, as ``pid-start``; `start` is in clock ticks since the machine started."""

    pid: int
    start: int

    @classmethod
    def current(cls) -> "Process":
        """Return this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> "Process":
        """Return the process that has this number now; start 0 if there is none or it has ended."""
        return cls(pid, _start(pid))

    @classmethod
    def from_text(cls, text: str) -> "Process | None":
        """Read what `str` of a Process gives; None if it is something else."""
        pid, _, start = text.partition("-")
        return cls(int(pid), int(start)) if pid.isdecimal() and start.isdecimal() else None

    def is_alive(self) -> bool:
        """Whether this very process still runs; one that has ended and waits for its parent does not."""
        return self.start != 0 and _start(self.pid) == self.start

    def __str__(self) -> str:
        return f"{self.pid}-{self.start}"


def _start(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # The name, in parentheses, may hold anything; after it the state is the first field, the number of
    # threads the 18th, the start the 20th. One that was killed holds its locks until its last thread ends.
    fields = text.rpartition(")")[2].split()
    ended = fields[0] in ("Z", "X") and int(fields[17]) <= 1
    return 0 if ended else int(fields[19])


class Background(subprocess.Popen[bytes]):
    """A process in a session of its own, which may outlive the one that starts it.

    Parameters
    ----------
    command : sequence of str
    output : file
        Gets what it prints, on stdout and stderr.
    cwd : path, optional
    """

    def __init__(self, command: Sequence[str], output: IO[bytes], cwd: Path | None = None) -> None:
        super().__init__(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
        )

    def __del__(self) -> None:
        """Do not warn that it still runs: it shall."""
