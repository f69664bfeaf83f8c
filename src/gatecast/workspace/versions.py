"""Rows that have a name and a version, counted up: the next one, one that is asked for, and what is wrong."""

import sqlite3
from typing import Literal

from gatecast.errors import NotFoundError

from .labels import LARGEST_VERSION
from .notes import Changes, changed_notes

Noun = Literal["model", "image"]

_SAID = {"model": "Model must be a registered one", "image": "Image must be one of the workspace"}
_LISTED = 10


def next_version(database: sqlite3.Connection, noun: Noun, name: str) -> int:
    """Count up the versions of a name, within a transaction; a version is never given twice."""
    row = database.execute(
        "INSERT INTO counters VALUES (?, ?, 1)"
        " ON CONFLICT (noun, name) DO UPDATE SET last = last + 1 RETURNING last",
        (noun, name),
    ).fetchone()
    return int(row[0])


def version_row(
    database: sqlite3.Connection, noun: Noun, name: str, version: int | None = None
) -> sqlite3.Row:
    """Return the row of a version, by default the latest; NotFoundError, which tells those there are."""
    chosen = "AND version = ?" if version is not None else "ORDER BY version DESC LIMIT 1"
    given = (name,) if version is None else (name, min(version, LARGEST_VERSION))
    row: sqlite3.Row | None = database.execute(
        f"SELECT * FROM {noun}s WHERE name = ? {chosen}", given
    ).fetchone()
    if row is None:
        raise _unknown(database, noun, name, version)
    return row


def change_version(
    database: sqlite3.Connection, noun: Noun, name: str, version: int, changes: Changes
) -> None:
    """Change tags, properties and description of a version, within a transaction."""
    row = version_row(database, noun, name, version)
    database.execute(
        f"UPDATE {noun}s SET tags = :tags, properties = :properties, description = :description"
        " WHERE name = :name AND version = :version",
        {**changed_notes(row, f"{name}:{version}", changes), "name": name, "version": version},
    )


def _unknown(database: sqlite3.Connection, noun: Noun, name: str, version: int | None) -> NotFoundError:
    versions = database.execute(
        f"SELECT version FROM {noun}s WHERE name = ? ORDER BY version", (name,)
    ).fetchall()
    if not versions:
        names = database.execute(
            f"SELECT DISTINCT name FROM {noun}s ORDER BY name LIMIT {_LISTED}"
        ).fetchall()
        known = ", ".join(row["name"] for row in names) or "none yet"
        return NotFoundError(f"{_SAID[noun]}, not {name}", hint=f"There are: {known}.")
    return NotFoundError(
        f"{noun.capitalize()} {name} must have the version that is asked for, not {version}",
        hint=f"It has: {', '.join(str(row['version']) for row in versions)}.",
    )
