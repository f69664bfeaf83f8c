"""Replicas: the processes of services, as the database knows them."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .planning import ReplicaState, Running
from .process import Process
from .store import Store, now, to_time


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One server of a service.

    `address` and `rest_address` are HOST:PORT, empty until it is ready. `process` is None for a moment after
    its row was made. `memory` is in bytes, an estimate.
    """

    id: int
    service: str
    image: str
    generation: int
    node: int
    memory: int
    state: ReplicaState
    process: Process | None
    address: str
    rest_address: str
    created_time: datetime
    ready_time: datetime | None
    stopped_time: datetime | None
    log: Path

    @property
    def name(self) -> str:
        """Of its files: ``SERVICE.ID``."""
        return file_name(self.service, self.id)

    @property
    def running(self) -> Running:
        """What planning needs to know."""
        return Running(self.id, self.generation, self.state, self.node)


def file_name(service: str, identity: int) -> str:
    """Return the name of a replica's log and ready file, without ending."""
    return f"{service}.{identity}"


def read_replicas(store: Store, database: sqlite3.Connection, service: str | None = None) -> list[Replica]:
    """Return the replicas of a service, or of all, the oldest first."""
    rows = database.execute(
        "SELECT * FROM replicas WHERE ? IS NULL OR service = ? ORDER BY id", (service, service)
    )
    return [_replica(store, row) for row in rows]


def insert(database: sqlite3.Connection, service: sqlite3.Row, node: int) -> int:
    """Add a replica that is about to be started; return its id."""
    cursor = database.execute(
        "INSERT INTO replicas VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, '', '', '', ?, NULL, NULL)",
        (
            service["name"],
            service["image_name"],
            service["image_version"],
            service["generation"],
            node,
            service["memory"],
            ReplicaState.STARTING,
            now(),
        ),
    )
    return int(cursor.lastrowid or 0)


def set_process(database: sqlite3.Connection, identity: int, process: Process) -> None:
    """Note the process of a replica."""
    database.execute("UPDATE replicas SET process = ? WHERE id = ?", (str(process), identity))


def set_ready(database: sqlite3.Connection, identity: int, address: str, rest_address: str) -> None:
    """Note that a replica answers, and where."""
    database.execute(
        "UPDATE replicas SET state = ?, address = ?, rest_address = ?, ready_time = ?"
        " WHERE id = ? AND state = ?",
        (ReplicaState.READY, address, rest_address, now(), identity, ReplicaState.STARTING),
    )


def set_stopping(database: sqlite3.Connection, identities: Sequence[int]) -> None:
    """Note that replicas get no more calls, and are to end."""
    database.executemany(
        "UPDATE replicas SET state = ?, stopped_time = ? WHERE id = ? AND state != ?",
        [(ReplicaState.STOPPING, now(), identity, ReplicaState.STOPPING) for identity in identities],
    )


def remove(database: sqlite3.Connection, identity: int) -> None:
    """Forget a replica whose process has ended."""
    database.execute("DELETE FROM replicas WHERE id = ?", (identity,))


def free_node(nodes: int, here: Sequence[Replica], service: str) -> int:
    """Return the node for a new replica: the first without one, else that of a replica it is to replace."""
    taken = {replica.node for replica in here}
    for node in range(nodes):
        if node not in taken:
            return node
    return next((replica.node for replica in here if replica.service == service), 0)


def _replica(store: Store, row: sqlite3.Row) -> Replica:
    return Replica(
        id=row["id"],
        service=row["service"],
        image=f"{row['image_name']}:{row['image_version']}",
        generation=row["generation"],
        node=row["node"],
        memory=row["memory"],
        state=ReplicaState(row["state"]),
        process=Process.from_text(row["process"]),
        address=row["address"],
        rest_address=row["rest_address"],
        created_time=to_time(row["created_time"]),
        ready_time=_time(row["ready_time"]),
        stopped_time=_time(row["stopped_time"]),
        log=store.log("replica", file_name(row["service"], row["id"])),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else to_time(text)
