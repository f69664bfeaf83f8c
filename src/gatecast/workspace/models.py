"""Models: files or folders registered under a name, each time with the next version."""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Unpack

from gatecast.errors import ConflictError, FileError, GatecastError, WorkspaceError

from .blobs import Adding, remove_folder
from .labels import (
    Filter,
    checked_description,
    checked_labels,
    checked_name,
    has_labels,
    split_id,
)
from .notes import Changes
from .sources import Source, find_source
from .store import Store, now, to_json, to_time
from .versions import change_version, next_version, version_row


@dataclass(frozen=True)
class ModelFile:
    """One file of a model: its path in the model's folder, bytes, and digest as ``sha256:…``."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Model:
    """One version of a model.

    `digest` is that of the file; of a folder, that of the text with one line ``<hex>  <path>`` for each file,
    sorted by path, as `sha256sum` prints it. `size` is in bytes. `file_name` is what the file or folder was
    called. `parent` is the id of the model that this one was converted from.
    """

    workspace: str
    name: str
    version: int
    digest: str
    size: int
    is_folder: bool
    file_name: str
    files: tuple[ModelFile, ...]
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    description: str
    created_time: datetime
    parent: str | None = None

    @property
    def id(self) -> str:
        """``name:version``."""
        return f"{self.name}:{self.version}"

    @property
    def url(self) -> str:
        """The model's address within and beyond its workspace."""
        return f"gatecast://{self.workspace}/models/{self.name}/{self.version}"


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a model to be registered is, apart from its files and version."""

    name: str
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    description: str = ""
    parent: str | None = None

    def checked(self) -> "Draft":
        """Return it with its own copies; WorkspaceError for a wrong name, tag, property or description."""
        return Draft(
            name=checked_name(self.name, "a model"),
            tags=checked_labels(self.tags, "tags"),
            properties=checked_labels(self.properties, "properties"),
            description=checked_description(self.description),
            parent=self.parent,
        )


class Models:
    """The models of a workspace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str = "",
        parent: str | None = None,
    ) -> Model:
        """Copy a file or a folder into the workspace, as the next version of `name`.

        Raises
        ------
        WorkspaceError
            A wrong name, tag, property or description; or the disk is full: then nothing has changed.
        FileError
            The path is missing, unreadable, empty, too large, or holds what is no file; a link leaves it.
        NotFoundError
            There is no model `parent`.
        """
        draft = Draft(
            name=name, tags=tags or {}, properties=properties or {}, description=description, parent=parent
        ).checked()
        if parent is not None:
            self.find(parent)
        source = find_source(Path(path), apart_from=self._store.root)
        with self._store.blobs.adding() as adding:
            files = copied(adding, source)
            with self._store.transaction() as database:
                identity = insert(database, draft, source, files)
        return self.find(identity)

    def get(self, name: str, version: int | None = None) -> Model:
        """Return a version of a model, by default the latest; NotFoundError if there is none."""
        checked_name(name, "a model")
        with self._store.reading() as database:
            return self._model(database, version_row(database, "model", name, version))

    def find(self, text: str) -> Model:
        """Return a model by ``name``, which is the latest version, or ``name:version``."""
        return self.get(*split_id(text, "a model"))

    def list(
        self, name: str | None = None, *, tags: Filter = (), properties: Filter = (), latest: bool = False
    ) -> list[Model]:
        """Return models, by name and then the newest version first.

        Parameters
        ----------
        name : str, optional
            Only versions of this model.
        tags, properties : sequence of (str, str or None)
            Only models with all these keys, with these values where they are not None.
        latest : bool
            Only the latest version of each name; the filters are applied to it.
        """
        with self._store.reading() as database:
            rows = database.execute(
                "SELECT * FROM models WHERE ? IS NULL OR name = ? ORDER BY name, version DESC", (name, name)
            ).fetchall()
            if latest:
                rows = list({row["name"]: row for row in reversed(rows)}.values())[::-1]
            models = [self._model(database, row) for row in rows]
        return [model for model in models if has_labels(model, tags, properties)]

    def update(self, model: Model, **changes: Unpack[Changes]) -> Model:
        """Change tags and description, add properties; return the model as it is then.

        `add_tags`, `remove_tags`, `add_properties` and `description` are optional. What others changed
        meanwhile stays. WorkspaceError if a property would change.
        """
        with self._store.transaction() as database:
            change_version(database, "model", model.name, model.version, changes)
        return self.get(model.name, model.version)

    def delete(self, model: Model) -> None:
        """Delete a model; ConflictError while images hold it, naming them.

        Being the parent of a converted model is no use: that one is whole without it.
        """
        with self._store.blobs.removing(), self._store.transaction() as database:
            version_row(database, "model", model.name, model.version)
            users = database.execute(
                "SELECT DISTINCT name, version FROM image_models WHERE model_name = ? AND model_version = ?"
                " ORDER BY name, version",
                (model.name, model.version),
            ).fetchall()
            if users:
                raise _in_use(model, [f"{row['name']}:{row['version']}" for row in users])
            database.execute("DELETE FROM models WHERE name = ? AND version = ?", (model.name, model.version))

    def file(self, model: Model) -> Path:
        """Return where the one file of a model lies, read-only, under the name of its digest.

        WorkspaceError for a folder: `checkout` gives that.
        """
        if model.is_folder:
            raise WorkspaceError(
                f"Model {model.id} must be a file, not a folder of {len(model.files)}",
                hint="Download it: `gatecast model download`.",
            )
        return self._store.blobs.existing(model.files[0].digest)

    @contextmanager
    def checkout(self, model: Model) -> Iterator[Path]:
        """Give the model's file or folder under its own names, to read only, for the time of the block.

        An error of Gatecast's within the block names files as ``name:version/path``.
        """
        with self._store.blobs.scratch() as scratch:
            root = scratch / model.file_name
            for file in model.files:
                target = root / file.path if model.is_folder else root
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(self._store.blobs.existing(file.digest), target)
            try:
                yield root
            except GatecastError as error:  # by the time it is read the folder is gone
                error.args = tuple(str(part).replace(f"{scratch}/", f"{model.id}/") for part in error.args)
                raise

    def download(self, model: Model, folder: str | os.PathLike[str], exist_ok: bool = False) -> Path:
        """Copy a model into a folder, under its own name; return where it lies then.

        Raises
        ------
        ConflictError
            Something of that name is there, and not `exist_ok`; with it, it is replaced.
        FileError
            The workspace's copy is damaged, or the target cannot be written. Nothing is left behind.
        """
        target = Path(folder) / model.file_name
        if not exist_ok and (target.exists() or target.is_symlink()):
            raise ConflictError(
                f"Path {target} must not exist", hint="Remove it, or have it replaced: --replace."
            )
        unfinished = target.with_name(f".{model.file_name}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_folder(unfinished)
            self._copy_out(model, unfinished)
            _put(unfinished, target)
        except OSError as error:
            raise FileError(
                f"Model {model.id} cannot be written to {target}: {error.strerror or error}",
                hint="Check that the folder may be written and has room.",
            ) from error
        finally:
            remove_folder(unfinished)
        return target

    def _copy_out(self, model: Model, root: Path) -> None:
        for file in model.files:
            target = root / file.path if model.is_folder else root
            target.parent.mkdir(parents=True, exist_ok=True)
            self._copy_file(model, file, target)

    def _copy_file(self, model: Model, file: ModelFile, target: Path) -> None:
        digest = hashlib.sha256()
        with self._store.blobs.existing(file.digest).open("rb") as source, target.open("xb") as copy:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                copy.write(chunk)
        if f"sha256:{digest.hexdigest()}" != file.digest:
            raise FileError(
                f"File {file.path} of model {model.id} must have digest {file.digest}, but was changed",
                hint="Register the model again from its source.",
            )

    def _model(self, database: sqlite3.Connection, row: sqlite3.Row) -> Model:
        files = database.execute(
            "SELECT path, size, digest FROM model_files WHERE name = ? AND version = ? ORDER BY path",
            (row["name"], row["version"]),
        ).fetchall()
        return Model(
            workspace=self._store.settings["name"],
            name=row["name"],
            version=row["version"],
            digest=row["digest"],
            size=row["size"],
            is_folder=bool(row["is_folder"]),
            file_name=row["file_name"],
            files=tuple(ModelFile(*file) for file in files),
            tags=json.loads(row["tags"]),
            properties=json.loads(row["properties"]),
            description=row["description"],
            created_time=to_time(row["created_time"]),
            parent=row["parent"],
        )


def copied(adding: Adding, source: Source) -> tuple[ModelFile, ...]:
    """Store the files of a source; return them as a model lists them."""
    blobs = [(path, adding.add_file(file)) for path, file in source.files]
    return tuple(ModelFile(path, blob.size, blob.digest) for path, blob in blobs)


def insert(database: sqlite3.Connection, draft: Draft, source: Source, files: Sequence[ModelFile]) -> str:
    """Add the rows of the next version of a model, whose files are stored, and return its id."""
    version = next_version(database, "model", draft.name)
    database.execute(
        "INSERT INTO models VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            draft.name,
            version,
            _digest(files, source.is_folder),
            sum(file.size for file in files),
            source.is_folder,
            source.name,
            to_json(draft.tags),
            to_json(draft.properties),
            draft.description,
            now(),
            draft.parent,
        ),
    )
    database.executemany(
        "INSERT INTO model_files VALUES (?, ?, ?, ?, ?)",
        [(draft.name, version, file.path, file.size, file.digest) for file in files],
    )
    return f"{draft.name}:{version}"


def _digest(files: Sequence[ModelFile], is_folder: bool) -> str:
    if not is_folder:
        return files[0].digest
    lines = "".join(f"{file.digest.removeprefix('sha256:')}  {file.path}\n" for file in files)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _put(new: Path, target: Path) -> None:
    """Give `new` the name `target`; what was there goes when that is done, or stays if it cannot be done."""
    old = new.with_suffix(".old")
    if target.exists() or target.is_symlink():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    remove_folder(old)


def _link(source: Path, target: Path) -> None:
    """Give a blob a second name; where that is not possible, copy it."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _in_use(model: Model, images: Sequence[str]) -> ConflictError:
    kind = "image" if len(images) == 1 else "images"
    return ConflictError(
        f"Model {model.id} must not be in use to be deleted; {kind} {', '.join(images)} "
        f"{'holds' if len(images) == 1 else 'hold'} it",
        hint=f"Delete the {kind} first.",
    )
