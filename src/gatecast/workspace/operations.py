"""Operations: what takes long and runs in a process of its own, with a state, a log and a result.

An operation belongs to a process: first the one that starts it, then its worker. Whoever looks at an
operation whose process is gone marks it as failed.
"""

import json
import os
import signal
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from gatecast.errors import ConflictError, NotFoundError, WorkspaceError

from .process import Background, Process
from .store import Store, now, to_json, to_time
from .waiting import look_until

WORKER = "gatecast.workspace.worker"
PATIENCE_S = 5.0
"""Seconds that a cancelled worker gets to end before it is killed."""

_workers: list[Background] = []
"""Those that this process has started, so that it can take note of their end."""

_workers_lock = threading.Lock()


class State(StrEnum):
    """Of an operation."""

    NOT_STARTED = "NotStarted"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def ended(self) -> bool:
        """Whether it never changes again."""
        return self not in (State.NOT_STARTED, State.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation as it was when it was looked at.

    `subject` is the id of what it works on, `result` of what it made, `request` what was asked for. `error`
    says what went wrong and, in its last line, what to do about it; it is empty if nothing did.
    """

    id: str
    kind: str
    subject: str
    request: Mapping[str, Any]
    state: State
    created_time: datetime
    ended_time: datetime | None
    error: str
    result: str | None
    log: Path


class Operations:
    """The operations of a workspace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, identity: str) -> Operation:
        """Return an operation by its id, or by the start of it if no other starts so; else NotFoundError."""
        with self._store.reading() as database:
            rows = database.execute(
                "SELECT * FROM operations WHERE substr(id, 1, ?) = ?", (len(identity), identity)
            ).fetchall()
        if len(rows) != 1 or not identity:
            raise NotFoundError(
                f"Operation must be a known one, not {identity!r}",
                hint="`gatecast operation list` lists them.",
            )
        return self._looked_at(rows[0])

    def list(self, kind: str | None = None) -> list[Operation]:
        """Return the operations, the newest first."""
        with self._store.reading() as database:
            rows = database.execute(
                "SELECT * FROM operations WHERE ? IS NULL OR kind = ? ORDER BY created_time DESC, id",
                (kind, kind),
            ).fetchall()
        return [self._looked_at(row) for row in rows]

    def start(self, kind: str, subject: str, request: Mapping[str, Any]) -> Operation:
        """Begin an operation in a process of its own, and return at once."""
        with self._store.transaction() as database:
            identity = insert(database, kind, subject, request)
        return self.launch(identity)

    def launch(self, identity: str) -> Operation:
        """Start the worker of an operation that `insert` has added, perhaps with other rows."""
        operation = self.get(identity)
        # -P: what lies in the current folder is not taken for a module.
        command = [sys.executable, "-P", "-m", WORKER, str(self._store.folder), identity]
        try:
            with operation.log.open("ab") as log:
                worker = Background(command, log)
        except OSError as error:
            self.fail(identity, f"Worker cannot be started: {error.strerror or error}")
            return self.get(identity)
        with _workers_lock:
            _workers.append(worker)
        with self._store.transaction() as database:
            database.execute(
                "UPDATE operations SET process = ? WHERE id = ? AND state = ?",
                (str(Process.of(worker.pid)), identity, State.NOT_STARTED),
            )
        return self.get(identity)

    def wait(
        self,
        operation: Operation,
        timeout: float | None = None,
        on_update: Callable[[Operation], None] | None = None,
        poll: float = 0.1,
    ) -> Operation:
        """Wait until an operation has ended, at most `timeout` seconds; return it as it is then.

        `on_update` is called at once and at every look, `poll` seconds apart.
        """
        identity = operation.id
        return look_until(lambda: self.get(identity), lambda now: now.state.ended, timeout, on_update, poll)

    def cancel(self, operation: Operation) -> Operation:
        """End an operation without a result; one that has ended stays as it is."""
        with self._store.transaction() as database:
            row = _row(database, operation.id)
            running = not State(row["state"]).ended
            if running:
                _end(
                    database, operation.id, State.CANCELLED, error="Operation was cancelled\nStart it again."
                )
        worker = Process.from_text(row["process"])
        if running and worker is not None and worker != Process.current():
            _stop(worker)
        return self.get(operation.id)

    def read_log(self, operation: Operation) -> str:
        """Return the log so far, empty if there is none yet."""
        try:
            return operation.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def claim(self, identity: str) -> Operation:
        """Make this process the worker of an operation; ConflictError unless it has not started yet."""
        with self._store.transaction() as database:
            row = _row(database, identity)
            if row["state"] != State.NOT_STARTED:
                raise ConflictError(f"Operation {identity} must not have started, but is {row['state']}")
            database.execute(
                "UPDATE operations SET state = ?, process = ? WHERE id = ?",
                (State.RUNNING, str(Process.current()), identity),
            )
        return self.get(identity)

    def fail(self, identity: str, error: str) -> None:
        """Note that an operation went wrong; one that has ended stays as it is."""
        with self._store.transaction() as database:
            if not State(_row(database, identity)["state"]).ended:
                _end(database, identity, State.FAILED, error=error)

    def _looked_at(self, row: sqlite3.Row) -> Operation:
        if not State(row["state"]).ended and not _is_alive(row["process"]):
            with self._store.transaction() as database:
                row = _row(database, row["id"])
                if not State(row["state"]).ended and not _is_alive(row["process"]):
                    _end(database, row["id"], State.FAILED, error=_LOST)
                    row = _row(database, row["id"])
        return Operation(
            id=row["id"],
            kind=row["kind"],
            subject=row["subject"],
            request=json.loads(row["request"]),
            state=State(row["state"]),
            created_time=to_time(row["created_time"]),
            ended_time=to_time(row["ended_time"]) if row["ended_time"] else None,
            error=row["error"],
            result=row["result"],
            log=self._store.log(row["kind"], row["id"]),
        )


_LOST = (
    "Operation ended without a result: its process was killed, or the machine stopped\n"
    "See its log, then start it again."
)


def insert(database: sqlite3.Connection, kind: str, subject: str, request: Mapping[str, Any]) -> str:
    """Add an operation that has not started and return its id; `Operations.launch` starts it."""
    identity = uuid.uuid4().hex
    database.execute(
        "INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?, NULL, '', NULL, ?)",
        (identity, kind, subject, to_json(request), State.NOT_STARTED, now(), str(Process.current())),
    )
    return identity


def succeed(database: sqlite3.Connection, identity: str, result: str) -> None:
    """Note the result of an operation, in the transaction that makes the result.

    Again with the same result is no error. ConflictError if it does not run any more, so that the transaction
    makes nothing: it was cancelled.
    """
    row = _row(database, identity)
    if row["state"] == State.SUCCEEDED and row["result"] == result:
        return
    if row["state"] != State.RUNNING:
        raise ConflictError(f"Operation {identity} must be running to succeed, but is {row['state']}")
    _end(database, identity, State.SUCCEEDED, result=result)


def _end(
    database: sqlite3.Connection, identity: str, state: State, *, error: str = "", result: str | None = None
) -> None:
    database.execute(
        "UPDATE operations SET state = ?, ended_time = ?, error = ?, result = ? WHERE id = ?",
        (state, now(), error, result, identity),
    )


def _row(database: sqlite3.Connection, identity: str) -> sqlite3.Row:
    row: sqlite3.Row | None = database.execute(
        "SELECT * FROM operations WHERE id = ?", (identity,)
    ).fetchone()
    if row is None:
        raise WorkspaceError(f"Operation {identity} must be in the workspace, but is not")
    return row


def _is_alive(text: str) -> bool:
    with _workers_lock:
        _workers[:] = [worker for worker in _workers if worker.poll() is None]
    process = Process.from_text(text)
    return process is not None and process.is_alive()


def _stop(worker: Process) -> None:
    """End a worker and what it has started; it leads a process group of its own."""
    deadline = time.monotonic() + PATIENCE_S
    how = signal.SIGTERM
    while _is_alive(str(worker)):
        try:
            os.killpg(worker.pid, how)
        except ProcessLookupError:
            return
        time.sleep(0.02)
        if time.monotonic() > deadline:
            how = signal.SIGKILL
