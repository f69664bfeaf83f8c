"""The process that keeps services running: ``python -m gatecast.workspace.supervisor FOLDER``.

It looks again and again at what is wanted and at what runs, and does the next step. Everything that it must
know stands in the database or is seen from the processes, so it may be killed at any time: those that serve
go on, and the next supervisor takes them over.
"""

import json
import logging
import signal
import sqlite3
import sys
import time
from collections.abc import Sequence

from gatecast import __version__
from gatecast.errors import GatecastError

from .front_door_keeper import FrontDoorKeeper, RoutedService
from .launching import FRONT_DOOR, Launcher, bound_log, send
from .planning import ReplicaState, ServiceState
from .probing import Prober
from .process import Process
from .replicas import Replica
from .service_keeper import ServiceKeeper
from .supervision import LOG_BYTES, LOG_KEPT, Lock
from .workspace import Workspace

logger = logging.getLogger(__name__)

BUSY_S, QUIET_S, TROUBLED_S = 0.05, 0.25, 1.0
"""Seconds between two looks: while something changes, while nothing does, and after a failure."""

LINGER_S = 1.0
"""How long it stays when there is nothing to run."""

LOGS_EVERY_S = 5.0


class Supervisor:
    """Does the next step for all services, the front door and the logs of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._store = workspace.store
        launcher = Launcher(workspace.store)
        self._services = ServiceKeeper(workspace, launcher)
        self._door = FrontDoorKeeper(workspace.store, launcher)
        self._prober = Prober()
        self._logs_at = 0.0
        self.known: set[Process] = set()
        self._services.adopt()

    def step(self) -> tuple[bool, bool]:
        """Look at everything once; return whether there is anything to run, and whether all is settled."""
        with self._store.held():
            return self._step()

    def _step(self) -> tuple[bool, bool]:
        services = self._services.services()
        self._services.observe(services)
        for service in services:
            self._services.advance(service)
        answers = self._keep_door(services)
        self._services.stop_marked()
        for service in services:
            if service["state"] == ServiceState.DELETING:
                self._services.finish(service)
            else:
                self._services.judge(service, answers, self._door.problem)
        self._bound_logs()
        self._kill_silent()
        door, replicas = self._door.process, self._services.replicas()
        self.known = {process for process in (door, *(replica.process for replica in replicas)) if process}
        settled = all(service["state"] == ServiceState.HEALTHY for service in services)
        return bool(services or self.known), settled

    def end_known(self) -> None:
        """End what runs: the workspace is gone."""
        for process in self.known:
            send(process, signal.SIGTERM)

    def _keep_door(self, services: Sequence[sqlite3.Row]) -> bool:
        kept = [service for service in services if service["state"] != ServiceState.DELETING]
        if not services:
            self._door.end()
            return False
        replicas = self._services.replicas()
        return self._door.keep([_routed(service, replicas) for service in kept])

    def _kill_silent(self) -> None:
        """Kill what runs and does not answer; that it has ended is seen at the next look."""
        probed = {
            replica.name: (replica.rest_address, replica.process) for replica in self._services.replicas()
        }
        if (door := self._door.rest_address) is not None:
            probed[FRONT_DOOR] = (door, self._door.process)
        for name in self._prober.silent() & probed.keys():
            if process := probed[name][1]:
                logger.warning("%s does not answer; killing process %s", name, process.pid)
                send(process, signal.SIGKILL)
        self._prober.watch({name: address for name, (address, _) in probed.items() if address})

    def _bound_logs(self) -> None:
        if time.monotonic() - self._logs_at > LOGS_EVERY_S:
            self._logs_at = time.monotonic()
            self._services.bound_logs()
            self._door.bound_log()
            bound_log(self._store.log("supervisor", "supervisor"), LOG_BYTES, LOG_KEPT)


def _routed(service: sqlite3.Row, replicas: Sequence[Replica]) -> RoutedService:
    ready = [
        (replica.address, replica.rest_address)
        for replica in replicas
        if replica.service == service["name"] and replica.state is ReplicaState.READY
    ]
    return RoutedService(service["name"], json.loads(service["models"]), ready)


class _Ending:
    """Becomes true with the first SIGTERM or SIGINT; services go on without a supervisor."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


def run(workspace: Workspace, lock: Lock, ending: _Ending) -> None:
    """Keep the services until there are none, the workspace is gone, or a signal comes."""
    supervisor = Supervisor(workspace)
    idle_since: float | None = None
    while not ending.asked:
        if not lock.is_held():
            logger.warning("The workspace is gone; ending what it ran")
            supervisor.end_known()
            return
        try:
            needed, settled = supervisor.step()
        except (GatecastError, OSError) as error:
            logger.error("%s", error)
            time.sleep(TROUBLED_S)
            continue
        except Exception:
            logger.exception("This is a bug in Gatecast")
            time.sleep(TROUBLED_S)
            continue
        idle_since = None if needed else idle_since or time.monotonic()
        if idle_since is not None and time.monotonic() - idle_since > LINGER_S:
            return
        time.sleep(QUIET_S if settled else BUSY_S)


def main(arguments: Sequence[str]) -> int:
    """Be the supervisor of a workspace, unless it has one."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    workspace = Workspace.open(arguments[0])
    lock, ending = Lock(workspace.store), _Ending()
    while lock.take():
        logger.info("Supervisor of workspace %s, Gatecast %s", workspace.name, __version__)
        try:
            run(workspace, lock, ending)
        finally:
            lock.give_back()
        # Whoever deployed a service just now may have seen the lock taken and left it to this process.
        if ending.asked or not _has_services(workspace):
            break
    logger.info("Supervisor ends")
    return 0


def _has_services(workspace: Workspace) -> bool:
    with workspace.store.reading() as database:
        return database.execute("SELECT 1 FROM services LIMIT 1").fetchone() is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
