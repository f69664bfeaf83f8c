"""Computes: where services run. A local compute is this machine, divided into nodes."""

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Unpack

from gatecast.errors import ConflictError, NotFoundError, WorkspaceError

from .notes import Notes, first_notes
from .store import Store, now, to_time

LOCAL = "local"
MOST_NODES = 1024
_NAME = re.compile(r"[A-Za-z](?:[-A-Za-z0-9]{0,30}[A-Za-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """One compute. Each of its `nodes` takes one replica of a service, as each had one accelerator."""

    name: str
    kind: str
    nodes: int
    state: str
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    description: str
    created_time: datetime


class Computes:
    """The computes of a workspace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self,
        name: str,
        kind: str = LOCAL,
        nodes: int = 1,
        **notes: Unpack[Notes],
    ) -> Compute:
        """Make a compute.

        Raises
        ------
        WorkspaceError
            A wrong name, kind, number of nodes, tag, property or description.
        ConflictError
            There is a compute of that name.
        """
        values = {
            "name": _checked_name(name),
            "kind": _checked_kind(kind),
            "nodes": checked_count(nodes, "Nodes of a compute", MOST_NODES),
            "state": "Succeeded",
            "created_time": now(),
            **first_notes(notes),
        }
        with self._store.transaction() as database:
            if database.execute("SELECT 1 FROM computes WHERE name = ?", (name,)).fetchone():
                raise ConflictError(
                    f"Compute {name} must not exist yet; it does",
                    hint=f"`gatecast compute show {name}` shows it.",
                )
            database.execute(
                "INSERT INTO computes VALUES (:name, :kind, :nodes, :state, :tags, :properties, :description,"
                " :created_time)",
                values,
            )
        return self.get(name)

    def get(self, name: str) -> Compute:
        """Return a compute; NotFoundError if there is none."""
        with self._store.reading() as database:
            return _compute(compute_row(database, name))

    def list(self) -> list[Compute]:
        """Return all computes, by name."""
        with self._store.reading() as database:
            return [_compute(row) for row in database.execute("SELECT * FROM computes ORDER BY name")]

    def delete(self, compute: Compute) -> None:
        """Delete a compute; ConflictError while services are on it, naming them."""
        with self._store.transaction() as database:
            compute_row(database, compute.name)
            rows = database.execute(
                "SELECT name FROM services WHERE compute = ? ORDER BY name", (compute.name,)
            ).fetchall()
            if rows:
                names = ", ".join(row["name"] for row in rows)
                raise ConflictError(
                    f"Compute {compute.name} must have no services to be deleted, but has: {names}",
                    hint=f"Delete them first: `gatecast service delete {rows[0]['name']}`.",
                )
            database.execute("DELETE FROM computes WHERE name = ?", (compute.name,))


def compute_row(database: sqlite3.Connection, name: str) -> sqlite3.Row:
    """Return the row of a compute; NotFoundError if there is none."""
    row: sqlite3.Row | None = database.execute("SELECT * FROM computes WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFoundError(
            f"Compute {name} is not known", hint="`gatecast compute list` lists them, `… create` makes one."
        )
    return row


def checked_count(number: int, what: str, most: int) -> int:
    """Return a whole number from 1 to `most`; WorkspaceError for anything else."""
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
        raise WorkspaceError(
            f"{what} must be a whole number from 1 to {most}, not {number!r}", hint="Choose another number."
        )
    return number


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not 2 <= len(name) <= 32 or not _NAME.fullmatch(name):
        raise WorkspaceError(
            "Name of a compute must be 2 to 32 letters, digits or '-', start with a letter "
            f"and not end with '-', not {name!r}",
            hint="Choose another name.",
        )
    return name


def _checked_kind(kind: str) -> str:
    if kind != LOCAL:
        raise WorkspaceError(
            f"Kind of a compute must be {LOCAL}, not {kind!r}", hint="It runs services on this machine."
        )
    return kind


def _compute(row: sqlite3.Row) -> Compute:
    return Compute(
        name=row["name"],
        kind=row["kind"],
        nodes=row["nodes"],
        state=row["state"],
        tags=json.loads(row["tags"]),
        properties=json.loads(row["properties"]),
        description=row["description"],
        created_time=to_time(row["created_time"]),
    )
