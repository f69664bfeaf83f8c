"""What stands before the work of a server: so many calls at a time, and none once it stops."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gatecast.serving.refusal import Code, RefusalError


class Gate:
    """Counts the calls that run or wait.

    Parameters
    ----------
    limit : int
        Calls at a time; more are refused at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._pending = 0
        self._draining = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Count one call; RefusalError (UNAVAILABLE) if there are too many, or the server stops."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def drain(self, timeout_s: float) -> bool:
        """Let no more calls in; return whether those inside ended within the time."""
        with self._changed:
            self._draining = True
            return self._changed.wait_for(lambda: self._pending == 0, timeout_s)

    def _enter(self) -> None:
        with self._changed:
            if self._draining:
                raise RefusalError(Code.UNAVAILABLE, "The server is stopping")
            if self._pending == self._limit:
                raise RefusalError(
                    Code.UNAVAILABLE, f"The server has {self._pending} predictions pending already; try again"
                )
            self._pending += 1

    def _leave(self) -> None:
        with self._changed:
            self._pending -= 1
            self._changed.notify_all()
