"""What lies in the folder of a workspace: database, blobs, logs; opened, made, kept sound."""

import json
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from gatecast.errors import ConflictError, NotFoundError, WorkspaceError

from . import schema
from .blobs import Blobs, remove_folder
from .process import Process

FOLDER = ".gatecast"
"""Name of the folder that makes the folder around it a workspace."""

SMALLEST_ROOM = 1 << 16
"""Bytes without which SQLite cannot open its files."""

PATIENCE_S = 30
"""Seconds that a change waits for those of other processes."""


class Store:
    """The files of one workspace. Safe for many threads and processes; nothing is kept open between calls.

    Parameters
    ----------
    folder : Path
        The workspace's folder; `Store.root` is `FOLDER` in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / FOLDER
        self.run = self.root / "run"
        self.blobs = Blobs(self.root, self._blobs_in_use)
        self._held = threading.local()

    @classmethod
    def create(cls, folder: Path, settings: Mapping[str, str]) -> "Store":
        """Make an empty workspace, whole or not at all; ConflictError if there is one."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _clean_unfinished(folder)
            unfinished = folder / f"{FOLDER}.{Process.current()}-{secrets.token_hex(4)}"
            try:
                _fill(unfinished, settings)
                if (folder / FOLDER).exists():
                    raise _exists(folder)
                unfinished.rename(folder / FOLDER)
            finally:
                remove_folder(unfinished)
        except OSError as error:
            if (folder / FOLDER).exists():
                raise _exists(folder) from error
            raise WorkspaceError(
                f"Workspace {folder} cannot be created: {error.strerror or error}",
                hint="Name a folder that may be written, on a disk with room.",
            ) from error
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a workspace and remove what processes that died have left.

        Raises
        ------
        NotFoundError
            The folder is no workspace.
        WorkspaceError
            It is damaged, or of a newer Gatecast.
        """
        store = cls(folder.absolute())
        try:
            if not (store.root / "workspace.db").is_file():
                raise NotFoundError(
                    f"Folder {folder} must be a workspace, but has no {FOLDER}/workspace.db",
                    hint=f"`gatecast workspace create {folder}` makes it one.",
                )
            with store.reading() as database:
                version = database.execute("PRAGMA user_version").fetchone()[0]
            if version != schema.VERSION:
                raise _other_version(folder, version)
            _clean_unfinished(folder)
            store.blobs.clean()
        except OSError as error:
            raise WorkspaceError(
                f"Workspace {folder} must be readable and writable: {error.filename}: {error.strerror}",
                hint="Check who owns the folder and what is in it, and that its disk has room.",
            ) from error
        return store

    @cached_property
    def settings(self) -> dict[str, str]:
        """Name, resource group, location, subscription id; they never change."""
        with self.reading() as database:
            return dict(database.execute("SELECT key, value FROM settings").fetchall())

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one state of everything, whatever others do meanwhile."""
        with self._connection() as database:
            database.execute("BEGIN")
            yield database

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give a connection whose changes are made when the block ends, all or, after an exception, none.

        Other writers wait meanwhile: read, compute and copy before.
        """
        with self._connection() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.commit()

    def log(self, kind: str, name: str) -> Path:
        """Return where a log lies, its folder made; it need not exist."""
        path = self.root / "logs" / kind / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Use one connection for all that this thread does in the block; each use is a transaction still."""
        with self._opened() as database:
            self._held.database = database
            try:
                yield
            finally:
                self._held.database = None

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        held: sqlite3.Connection | None = getattr(self._held, "database", None)
        if held is None:
            with self._opened() as database:
                yield database
            return
        try:
            try:
                yield held
            finally:
                held.rollback()
        except sqlite3.Error as error:
            raise _explained(self.folder, error) from error

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        path = self.root / "workspace.db"
        try:
            # As a URI, so that a workspace that was removed meanwhile is not made anew, empty.
            database = sqlite3.connect(
                f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE_S, isolation_level=None
            )
            try:
                database.row_factory = sqlite3.Row
                database.execute("PRAGMA foreign_keys = ON")
                database.execute("PRAGMA synchronous = FULL")
                yield database
            finally:
                database.close()
        except sqlite3.Error as error:
            raise _explained(self.folder, error) from error

    def _blobs_in_use(self) -> set[str]:
        with self.reading() as database:
            return {row[0] for query in schema.BLOBS_IN_USE for row in database.execute(query)}


def now() -> str:
    """Return the time as it stands in the database."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def to_time(text: str) -> datetime:
    """Read what `now` gives."""
    return datetime.fromisoformat(text)


def to_json(values: object) -> str:
    """Return plain data as it stands in the database."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False)


def _fill(root: Path, settings: Mapping[str, str]) -> None:
    for name in ("blobs/sha256", "tmp", "logs", "run"):
        (root / name).mkdir(parents=True)
    try:
        database = sqlite3.connect(root / "workspace.db", isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")
            for statement in schema.TABLES:
                database.execute(statement)
            database.executemany("INSERT INTO settings VALUES (?, ?)", settings.items())
            database.execute(f"PRAGMA user_version = {schema.VERSION}")
            database.commit()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise _explained(root.parent, error) from error
    (root / "lock").touch()


def _clean_unfinished(folder: Path) -> None:
    """Remove what a `create` that was killed has left."""
    for path in folder.glob(f"{FOLDER}.*-*-*"):
        process = Process.from_text(path.name.removeprefix(f"{FOLDER}.").rpartition("-")[0])
        if process is not None and not process.is_alive():
            remove_folder(path)


def _exists(folder: Path) -> ConflictError:
    return ConflictError(
        f"Folder {folder} must not be a workspace yet; it is one",
        hint=f"`gatecast workspace show --workspace {folder}` shows it.",
    )


def _other_version(folder: Path, version: int) -> WorkspaceError:
    return WorkspaceError(
        f"Workspace {folder} must have tables of version {schema.VERSION}, not {version}",
        hint="Use the Gatecast that made the workspace, or a newer one."
        if version > schema.VERSION
        else "Its database is empty or was replaced; restore the folder from a copy.",
    )


def _explained(folder: Path, error: sqlite3.Error) -> WorkspaceError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return WorkspaceError(
            f"Workspace {folder} is changed by another process since {PATIENCE_S} s",
            hint="Try again; if it lasts, `fuser -v` on its workspace.db shows who holds it.",
        )
    if isinstance(error, sqlite3.IntegrityError):
        return ConflictError(
            f"Workspace {folder} cannot be changed so: {error}",
            hint="Something else was changed or deleted meanwhile; look again, then try again.",
        )
    faults = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR)
    # Where no room is left at all, not even the shared memory of WAL can be made: SQLite says "I/O error".
    if code == sqlite3.SQLITE_FULL or (code in faults and _is_full(folder)):
        return WorkspaceError(
            f"Workspace {folder} cannot be opened or changed: the disk is full",
            hint="Make room on the disk that holds the workspace; nothing was changed.",
        )
    if code in faults:
        return WorkspaceError(
            f"Workspace {folder} must be readable and writable: {error}",
            hint=f"Check that {folder / FOLDER / 'workspace.db'} and its folder may be written.",
        )
    return WorkspaceError(
        f"Workspace {folder} must have a sound database, not one with: {error}",
        hint=f"Restore {folder / FOLDER} from a copy; the files of models are whole in its folder blobs.",
    )


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < SMALLEST_ROOM
    except OSError:
        return False


def default_folder() -> Path:
    """Return the workspace that is meant where none is named: GATECAST_WORKSPACE, else upward from here."""
    if named := os.environ.get("GATECAST_WORKSPACE"):
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER / "workspace.db").is_file():
            return folder
    raise NotFoundError(
        f"A workspace must be named, or be in the current folder {here} or above it; there is none",
        hint="`gatecast workspace create DIR` makes one; GATECAST_WORKSPACE or --workspace names it.",
    )
