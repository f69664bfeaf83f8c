"""Keeps the replicas of services: as many as are wanted, of the image that is wanted."""

import logging
import signal
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gatecast.devices import usable_processors
from gatecast.errors import ConflictError, GatecastError, NotFoundError

from . import replicas as rows
from .capacity import MIB, machine_memory
from .launching import Launcher, bound_log, last_lines, send
from .planning import QUICK_DEATHS, Plan, ReplicaState, ServiceState, is_complete, judged, pause_s, plan
from .process import Process
from .replicas import Replica, read_replicas
from .services import check_version, replica_logs
from .workspace import Workspace

logger = logging.getLogger(__name__)

QUICK_S = 10.0
"""A replica that ends within so many seconds after it was ready has died quickly."""

SILENT_DOOR = "The front door does not answer yet"

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 45.0
LOG_BYTES, LOG_KEPT, LOGS_KEPT = 4 << 20, 1 << 20, 10


@dataclass
class Record:
    """What is remembered of a service since it was last changed."""

    updated_time: str
    deaths: int = 0
    next_start: float = 0.0
    trouble: str = ""
    unschedulable: bool = False


class ServiceKeeper:
    """Does the next step for each service.

    Parameters
    ----------
    workspace : Workspace
        What is wanted stands in it.
    launcher : Launcher
        Starts processes.
    """

    def __init__(self, workspace: Workspace, launcher: Launcher) -> None:
        self._workspace = workspace
        self._store = workspace.store
        self._launcher = launcher
        self._records: dict[str, Record] = {}
        self._signalled: set[Process] = set()

    def adopt(self) -> None:
        """Take over the replicas of a supervisor that was killed, whatever it was just doing."""
        found = self._launcher.found()
        for replica in self.replicas():
            process = found.pop(replica.name, None)
            if replica.process is None and process is None:
                self._remove(replica)
            elif replica.process is None and process is not None:
                with self._store.transaction() as database:
                    rows.set_process(database, replica.id, process)
        for name, process in found.items():
            if "." in name:  # a replica whose row is gone
                logger.warning("Process %s of %s is not known any more; ending it", process.pid, name)
                send(process, signal.SIGKILL)

    def services(self) -> list[sqlite3.Row]:
        """Return the rows of all services."""
        with self._store.reading() as database:
            return database.execute("SELECT * FROM services ORDER BY name").fetchall()

    def replicas(self) -> list[Replica]:
        """Return all replicas."""
        with self._store.reading() as database:
            return read_replicas(self._store, database)

    def observe(self, services: Sequence[sqlite3.Row]) -> None:
        """Note which replicas have ended, and which answer now."""
        by_name = {service["name"]: service for service in services}
        for replica in self.replicas():
            if replica.process is None:
                self._remove(replica)
                continue
            end = self._launcher.end(replica.process)
            if end is not None:
                self._note_end(replica, by_name[replica.service], end)
            elif replica.state is ReplicaState.STARTING:
                self._look_whether_ready(replica, replica.process)
            elif replica.state is ReplicaState.STOPPING and _age_s(replica.stopped_time) > STOP_TIMEOUT_S:
                send(replica.process, signal.SIGKILL)

    def advance(self, service: sqlite3.Row) -> None:
        """Start the replicas that a service lacks; mark those that it has too many."""
        here = [replica for replica in self.replicas() if replica.service == service["name"]]
        wanted = 0 if service["state"] == ServiceState.DELETING else service["replicas"]
        step: Plan = plan(wanted, service["generation"], [replica.running for replica in here])
        if step.stop:
            with self._store.transaction() as database:
                rows.set_stopping(database, step.stop)
            self._tell(service["name"], f"Stopping {', '.join(f'replica {number}' for number in step.stop)}")
        record = self._record(service)
        if step.start and time.monotonic() >= record.next_start:
            self._start(service, record, step.start)

    def stop_marked(self) -> None:
        """Tell the replicas that get no more calls to end; the routes must be written before."""
        for replica in self.replicas():
            process = replica.process
            if replica.state is ReplicaState.STOPPING and process and process not in self._signalled:
                self._signalled.add(process)
                send(process, signal.SIGTERM)

    def judge(self, service: sqlite3.Row, answers: bool, problem: str) -> None:
        """Write down the state of a service and why; `answers` and `problem` are the front door's."""
        here = [replica for replica in self.replicas() if replica.service == service["name"]]
        running = [replica.running for replica in here]
        ready = [replica for replica in here if replica.state is ReplicaState.READY]
        record = self._record(service)
        complete = answers and is_complete(service["replicas"], service["generation"], running)
        if complete and all(_age_s(replica.ready_time) > QUICK_S for replica in ready):
            record.deaths, record.trouble = 0, ""
        before = ServiceState(service["state"])
        state = judged(before, complete, len(ready), record.deaths)
        if record.unschedulable and not ready:
            state = ServiceState.UNSCHEDULABLE
        if not (answers or problem):
            problem = SILENT_DOOR if len(ready) == service["replicas"] else ""
        reason = "" if complete else _reason(service, len(ready), record.trouble or problem)
        if (state, reason) == (before, service["reason"]):
            return
        with self._store.transaction() as database:
            # Not if the service was changed since it was read.
            database.execute(
                "UPDATE services SET state = ?, reason = ? WHERE name = ? AND updated_time = ?",
                (state, reason, service["name"], service["updated_time"]),
            )
        if state is not before:
            self._tell(service["name"], f"{state}{f': {reason}' if reason else ''}")

    def finish(self, service: sqlite3.Row) -> None:
        """Forget a service that is being deleted once its replicas have ended, and an image made for it."""
        name = service["name"]
        if any(replica.service == name for replica in self.replicas()):
            return
        if service["implicit_image"]:
            with self._store.transaction() as database:
                database.execute(
                    "UPDATE services SET image_name = NULL, image_version = NULL WHERE name = ?", (name,)
                )
            self._delete_image(service["implicit_image"])
        with self._store.transaction() as database:
            database.execute("DELETE FROM services WHERE name = ?", (name,))
        for path in [
            self._store.log("service", name),
            *(path for _, path in replica_logs(self._store, name)),
        ]:
            path.unlink(missing_ok=True)
        self._records.pop(name, None)
        logger.info("Service %s is gone", name)

    def bound_logs(self) -> None:
        """Keep the logs of replicas small, and of those that have ended only the last."""
        alive = {replica.log for replica in self.replicas()}
        for service in self.services():
            bound_log(self._store.log("service", service["name"]), LOG_BYTES, LOG_KEPT)
            logs = [path for _, path in replica_logs(self._store, service["name"])]
            for path in [path for path in logs if path not in alive][:-LOGS_KEPT]:
                path.unlink(missing_ok=True)
            for path in logs:
                bound_log(path, LOG_BYTES, LOG_KEPT)

    def _record(self, service: sqlite3.Row) -> Record:
        record = self._records.get(service["name"])
        if record is None or record.updated_time != service["updated_time"]:
            record = self._records[service["name"]] = Record(service["updated_time"])
        return record

    def _look_whether_ready(self, replica: Replica, process: Process) -> None:
        ports = self._launcher.ports(replica.name, process)
        if ports is not None:
            with self._store.transaction() as database:
                rows.set_ready(
                    database, replica.id, f"127.0.0.1:{ports.port}", f"127.0.0.1:{ports.rest_port}"
                )
            self._tell(replica.service, f"Replica {replica.id} is ready on port {ports.port}")
        elif _age_s(replica.created_time) > START_TIMEOUT_S:
            self._tell(replica.service, f"Replica {replica.id} was not ready within {START_TIMEOUT_S:.0f} s")
            send(process, signal.SIGKILL)

    def _note_end(self, replica: Replica, service: sqlite3.Row, end: str) -> None:
        self._remove(replica)
        if replica.state is ReplicaState.STOPPING:
            self._tell(replica.service, f"Replica {replica.id} has ended")
            return
        trouble = f"Replica {replica.id} {end}: {last_lines(replica.log)}"
        self._tell(replica.service, trouble)
        record = self._record(service)
        if replica.generation == service["generation"]:
            quick = replica.ready_time is None or _age_s(replica.ready_time) < QUICK_S
            self._note_death(record, record.deaths + 1 if quick else 1, trouble)

    def _note_death(self, record: Record, deaths: int, trouble: str) -> None:
        record.deaths, record.trouble = deaths, trouble
        record.next_start = time.monotonic() + pause_s(deaths)

    def _remove(self, replica: Replica) -> None:
        with self._store.transaction() as database:
            rows.remove(database, replica.id)
        self._launcher.forget(replica.name, replica.process)
        self._signalled.discard(replica.process or Process(0, 0))

    def _start(self, service: sqlite3.Row, record: Record, count: int) -> None:
        try:
            artifact = self._artifact(service, record)
            for _ in range(count if artifact else 0):
                self._start_one(service, str(artifact))
        except (GatecastError, OSError) as error:
            self._tell(service["name"], f"No replica can be started: {error}")
            self._note_death(record, QUICK_DEATHS + record.deaths, str(error))

    def _artifact(self, service: sqlite3.Row, record: Record) -> Path | None:
        """Return what to serve; None if there is no room, which is remembered."""
        compute = self._workspace.computes.get(service["compute"])
        of_node = machine_memory() // compute.nodes
        record.unschedulable = service["memory"] > of_node
        if record.unschedulable:
            record.trouble = (
                f"A replica needs {service['memory'] // MIB} MiB of memory, but a node of compute "
                f"{compute.name} has {of_node // MIB} MiB"
            )
            record.next_start = time.monotonic() + pause_s(QUICK_DEATHS)
            return None
        image = self._workspace.images.get(service["image_name"], service["image_version"])
        check_version(image)
        return self._workspace.images.artifact(image)

    def _start_one(self, service: sqlite3.Row, artifact: str) -> None:
        name = service["name"]
        nodes = self._workspace.computes.get(service["compute"]).nodes
        on_compute = {other["name"] for other in self.services() if other["compute"] == service["compute"]}
        here = [replica for replica in self.replicas() if replica.service in on_compute]
        node = rows.free_node(nodes, here, name)
        with self._store.transaction() as database:
            identity = rows.insert(database, service, node)
        arguments = ["serve", artifact, "--model_name", name, "--port", "0", "--rest_api_port", "0"]
        threads = service["threads"] or max(usable_processors() // nodes, 1)
        arguments += ["--threads", str(threads)]
        file_name = rows.file_name(name, identity)
        process = self._launcher.start(file_name, arguments, self._store.log("replica", file_name))
        with self._store.transaction() as database:
            rows.set_process(database, identity, process)
        image = f"{service['image_name']}:{service['image_version']}"
        self._tell(
            name,
            f"Replica {identity} of image {image} starts on node {node} as process {process.pid}, "
            f"threads: {threads}",
        )

    def _delete_image(self, identity: str) -> None:
        images = self._workspace.images
        try:
            images.delete(images.find(identity))
        except NotFoundError:
            return
        except ConflictError as error:
            logger.warning("%s; it stays", error)

    def _tell(self, service: str, event: str) -> None:
        logger.info("%s: %s", service, event)
        with self._store.log("service", service).open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {event}\n")


def _reason(service: sqlite3.Row, ready: int, trouble: str) -> str:
    count = f"{ready} of {service['replicas']} replicas ready"
    return f"{count}. {trouble}" if trouble else count


def _age_s(moment: datetime | None) -> float:
    return (datetime.now(UTC) - moment).total_seconds() if moment else 0.0
