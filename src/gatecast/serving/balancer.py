"""Which replica takes a call: the one with the fewest in flight, and none that has just failed."""

import logging
import os
import threading
import time
from collections.abc import Collection, Generator
from pathlib import Path
from typing import Any

import grpc

from gatecast.errors import FileError
from gatecast.serving.listening import grpc_options
from gatecast.serving.refusal import RefusalError
from gatecast.serving.routes import ReplicaAddress, Route, Routes, read_routes

logger = logging.getLogger(__name__)

LEFT_OUT_S = 1.0
"""How long a replica that did not take a call is asked last."""

_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]


class Replica:
    """One server behind the front door; its connection is kept open."""

    def __init__(self, where: ReplicaAddress, answer_bytes: int) -> None:
        self.where = where
        self.in_flight = 0
        self.is_retired = False
        self._left_out_until = 0.0
        self._channel = grpc.insecure_channel(where.address, grpc_options(answer_bytes) + _RECONNECT)
        self._methods: dict[str, Any] = {}

    def method(self, path: str) -> Any:
        """Return the call of a path, from bytes to bytes."""
        if path not in self._methods:
            self._methods[path] = self._channel.unary_unary(path)
        return self._methods[path]

    def leave_out(self) -> None:
        """Ask it last for a while."""
        self._left_out_until = time.monotonic() + LEFT_OUT_S

    def is_left_out(self) -> bool:
        """Whether it has failed just now."""
        return time.monotonic() < self._left_out_until

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


class Balancer:
    """Keeps the routes as the file has them, and counts the calls of each replica.

    Parameters
    ----------
    path : Path
        The routes file. Whoever changes it puts a new one in its place.
    answer_bytes : int
        Largest answer that is passed on.

    Raises
    ------
    FileError
        The file is not well formed. If it becomes so later, the last good routes stay.
    """

    def __init__(self, path: Path, answer_bytes: int) -> None:
        self._path = path
        self._answer_bytes = answer_bytes
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._replicas: dict[ReplicaAddress, Replica] = {}
        self._stamp = _stamp(path)
        self.routes = read_routes(path)

    def refresh(self) -> None:
        """Read the routes again if the file has changed."""
        with self._reading:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                routes = read_routes(self._path)
            except FileError as error:
                logger.error("%s; the routes stay as they were", error)
                return
            self._change(routes)
        logger.info("Routes: %s", _summary(routes))

    def route(self, header: str | None, model: str) -> Route:
        """Return the service that a request means, as `Routes.find` does; what is not known may be new."""
        try:
            return self.routes.find(header, model)
        except RefusalError:
            self.refresh()
            return self.routes.find(header, model)

    def is_up(self, service: str) -> bool:
        """Whether a service has a replica that has not failed just now."""
        route = self.routes.services[service]
        with self._lock:
            return any(not self._replica(where).is_left_out() for where in route.replicas)

    def candidates(self, service: str) -> Generator[Replica, None, None]:
        """Give each replica once, the best first; when all were given, those that are new since.

        A replica counts as busy until the next is asked for, or the iterator is closed.
        """
        tried: set[ReplicaAddress] = set()
        while replica := self._taken(service, tried):
            tried.add(replica.where)
            try:
                yield replica
            finally:
                self._release(replica)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            replicas, self._replicas = list(self._replicas.values()), {}
        for replica in replicas:
            replica.close()

    def _taken(self, service: str, tried: Collection[ReplicaAddress]) -> Replica | None:
        if replica := self._best(service, tried):
            return replica
        self.refresh()
        return self._best(service, tried)

    def _best(self, service: str, tried: Collection[ReplicaAddress]) -> Replica | None:
        """Choose and count at once, so that no connection is closed between."""
        with self._lock:
            route = self.routes.services.get(service, Route(service))
            choice = [self._replica(where) for where in route.replicas if where not in tried]
            best = min(choice, key=lambda replica: (replica.is_left_out(), replica.in_flight), default=None)
            if best:
                best.in_flight += 1
            return best

    def _release(self, replica: Replica) -> None:
        with self._lock:
            replica.in_flight -= 1
            ended = replica.is_retired and not replica.in_flight
        if ended:
            replica.close()

    def _replica(self, where: ReplicaAddress) -> Replica:
        if where not in self._replicas:
            self._replicas[where] = Replica(where, self._answer_bytes)
        return self._replicas[where]

    def _change(self, routes: Routes) -> None:
        """Use new routes; a connection that none has any more is closed after its last call."""
        routed = {where for route in routes.services.values() for where in route.replicas}
        with self._lock:
            self.routes = routes
            gone = [self._replicas.pop(where) for where in set(self._replicas) - routed]
            for replica in gone:
                replica.is_retired = True
            idle = [replica for replica in gone if not replica.in_flight]
        for replica in idle:
            replica.close()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Which file it is, and of when."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _summary(routes: Routes) -> str:
    texts = (f"{name} ({len(route.replicas)} ready)" for name, route in sorted(routes.services.items()))
    return ", ".join(texts) or "none"
