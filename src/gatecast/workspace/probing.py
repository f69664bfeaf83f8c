"""Whether processes that should answer do: one that hangs is not seen by looking whether it runs."""

import http.client
import threading
from collections.abc import Mapping
from contextlib import closing

PERIOD_S = 1.0
TIMEOUT_S = 3.0
MOST_SILENCES = 3


class Prober:
    """Asks each of some addresses for its health, again and again, in a thread of its own.

    Any answer will do: a server that says that it is not ready is not one that hangs. Nor is one that refuses
    a connection, which has ended or is about to.
    """

    def __init__(self, period_s: float = PERIOD_S, timeout_s: float = TIMEOUT_S) -> None:
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._watched: dict[str, str] = {}
        self._silences: dict[str, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gatecast-prober", daemon=True)

    def watch(self, addresses: Mapping[str, str]) -> None:
        """Ask these from now on, and no others: HOST:PORT for REST, by name."""
        with self._lock:
            self._watched = dict(addresses)
            self._silences = {name: count for name, count in self._silences.items() if name in addresses}
        if not self._thread.is_alive():
            self._thread.start()

    def silent(self) -> set[str]:
        """Return the names of those that did not answer several times in a row."""
        with self._lock:
            return {name for name, count in self._silences.items() if count >= MOST_SILENCES}

    def close(self) -> None:
        """End the thread, once it has its last answer."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._period_s):
            with self._lock:
                watched = list(self._watched.items())
            for name, address in watched:
                self._note(name, address, self._hangs(address))

    def _note(self, name: str, address: str, hangs: bool) -> None:
        with self._lock:
            if self._watched.get(name) == address:
                self._silences[name] = self._silences.get(name, 0) + 1 if hangs else 0

    def _hangs(self, address: str) -> bool:
        try:
            with closing(http.client.HTTPConnection(address, timeout=self._timeout_s)) as connection:
                connection.request("GET", "/healthz")
                connection.getresponse().read()
        except TimeoutError:
            return True
        except (OSError, http.client.HTTPException):
            return False
        return False
