"""Images: a model compiled for a target, with all that serves it, as an OCI image.

The blobs of an image are blobs of the workspace, so images share layers. Ref: docs/spec/image.md.
"""

import json
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Unpack

from gatecast.errors import ConflictError, FileError, WorkspaceError
from gatecast.files import write_whole

from .artifact_layer import ARTIFACT_DIGEST, unpack_artifact
from .blobs import Blob, digest_of, remove_folder
from .labels import Filter, checked_version, has_labels
from .layers import tar_parts
from .models import Model, Models
from .notes import Changes, Notes, first_notes
from .oci import MANIFEST, Descriptor, archive_entries
from .operations import Operation, Operations, insert
from .store import Store, now, to_json, to_time
from .versions import change_version, next_version, version_row

LONGEST_MODEL_NAME = 240
"""Letters of a model's name in an image, where names of files are made of it."""

_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|-+)[a-z0-9]+)*")


_INSERT = """INSERT INTO images VALUES (
    :name, :version, :state, :target, NULL, 0, :tags, :properties, '{}', :description, :created_time,
    :operation
)"""


class ImageState(StrEnum):
    """Of an image."""

    CREATING = "Creating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, kw_only=True)
class Image:
    """One version of an image.

    `models` are ids, `target` an Architecture's name. `digest` is that of the manifest, None until the image
    has succeeded; `size` is in bytes, as transferred. `labels` are those in the image. `operation` is the id
    of what makes it, whose log is `log`.
    """

    name: str
    version: int
    state: ImageState
    models: tuple[str, ...]
    target: str
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    description: str
    created_time: datetime
    digest: str | None
    size: int
    labels: Mapping[str, str]
    operation: str
    log: Path

    @property
    def id(self) -> str:
        """``name:version``."""
        return f"{self.name}:{self.version}"

    @property
    def location(self) -> str:
        """Name that the image has where it is loaded."""
        return f"localhost/{self.id}"


class Images:
    """The images of a workspace."""

    def __init__(self, store: Store, models: Models, operations: Operations) -> None:
        self._store = store
        self._models = models
        self._operations = operations

    def create(
        self,
        name: str,
        models: Sequence[str | Model],
        *,
        target: str = "software",
        format: str = "bfp8",
        base: str | os.PathLike[str] | None = None,
        **notes: Unpack[Notes],
    ) -> tuple[Image, Operation]:
        """Begin to make the next version of an image; it exists at once, as Creating.

        Parameters
        ----------
        name : str
            3 to 32 lower-case letters and digits, in words joined by ``.`` or ``-``.
        models : sequence of str or Model
            One model: an ONNX network, or an artifact that was compiled for `target`.
        target : str
            Architecture to compile for.
        format : str
            How to quantise a network that is not yet; ``float`` leaves it so.
        base : path, optional
            Root file system; by default that of `gatecast image base`, if it was made.
        tags, properties, description : optional
            Of the image in the workspace; they are not in the image.

        Raises
        ------
        WorkspaceError
            A wrong name, tag, property or description, or not one model.
        NotFoundError
            No such model or target.
        FormatError
            No such format.
        FileError
            `base` is missing.
        """
        model = self._the_one(models)
        import_module("gatecast.workspace.recipe").check_recipe(target, format)
        values = {
            "name": _checked_name(name),
            "state": ImageState.CREATING,
            "target": target,
            "created_time": now(),
            **first_notes(notes),
        }
        request = {"models": [model.id], "target": target, "format": format, "base": _checked_base(base)}
        with self._store.transaction() as database:
            version = next_version(database, "image", name)
            operation = insert(database, "image", f"{name}:{version}", request)
            database.execute(_INSERT, {**values, "version": version, "operation": operation})
            database.execute(
                "INSERT INTO image_models VALUES (?, ?, 0, ?, ?)", (name, version, model.name, model.version)
            )
        started = self._operations.launch(operation)
        return self.get(name, version), started

    def get(self, name: str, version: int | None = None) -> Image:
        """Return a version of an image, by default the latest; NotFoundError if there is none."""
        with self._store.reading() as database:
            image = self._image(database, version_row(database, "image", name, version))
        return self._settled(image)

    def find(self, text: str) -> Image:
        """Return an image by ``name``, which is the latest version, or ``name:version``."""
        name, colon, version = text.partition(":")
        _checked_name(name)
        return self.get(name, checked_version(version, name, f"an image {name}") if colon else None)

    def list(
        self,
        name: str | None = None,
        model: str | None = None,
        *,
        tags: Filter = (),
        properties: Filter = (),
    ) -> list[Image]:
        """Return images, by name and then the newest version first.

        Parameters
        ----------
        name : str, optional
            Only versions of this image.
        model : str, optional
            Only those of this model, ``name`` or ``name:version``.
        tags, properties : sequence of (str, str or None)
            Only images with all these keys, with these values where they are not None.
        """
        with self._store.reading() as database:
            rows = database.execute(
                "SELECT * FROM images WHERE ? IS NULL OR name = ? ORDER BY name, version DESC", (name, name)
            ).fetchall()
            images = [self._image(database, row) for row in rows]
        return [
            self._settled(image)
            for image in images
            if has_labels(image, tags, properties)
            and (model is None or any(model in (one, one.partition(":")[0]) for one in image.models))
        ]

    def update(self, image: Image, **changes: Unpack[Changes]) -> Image:
        """Change tags and description, add properties; return the image as it is then.

        `add_tags`, `remove_tags`, `add_properties` and `description` are optional. What others changed
        meanwhile stays. WorkspaceError if a property would change.
        """
        with self._store.transaction() as database:
            change_version(database, "image", image.name, image.version, changes)
        return self.get(image.name, image.version)

    def delete(self, image: Image) -> None:
        """Delete an image, one that is being made too; ConflictError while services run it, naming them."""
        with self._store.reading() as database:
            _refuse_use(database, image)
        if image.state == ImageState.CREATING:
            self._operations.cancel(self._operations.get(image.operation))
        with self._store.blobs.removing(), self._store.transaction() as database:
            version_row(database, "image", image.name, image.version)
            _refuse_use(database, image)
            database.execute("DELETE FROM images WHERE name = ? AND version = ?", (image.name, image.version))
        self._remove_unpacked()

    def export(self, image: Image, path: str | os.PathLike[str]) -> None:
        """Write an image as one tar that `docker load`, `podman load` and `skopeo` take, whole or not at all.

        Raises
        ------
        WorkspaceError
            The image has not succeeded.
        FileError
            A file of the workspace is missing or was changed, or the tar cannot be written.
        """
        parts = self._parts(image)
        paths = {digest: self._checked(digest) for digest, _ in parts.values()}
        manifest = Descriptor(MANIFEST, *parts["manifest"])
        entries = archive_entries(manifest, image.location, lambda digest: paths[digest].open("rb"))
        write_whole(Path(path), tar_parts(entries), "Image")

    def artifact(self, image: Image) -> Path:
        """Return the artifact in an image as a file, read-only; it is unpacked once, and again if it changed.

        Raises
        ------
        WorkspaceError
            The image has not succeeded.
        FileError
            The layer was changed, or holds something else.
        """
        digest, _ = self._parts(image)["model"]
        name = image.models[0].partition(":")[0]
        target = self._store.run / "artifacts" / digest.removeprefix("sha256:") / f"{name}.gcast"
        wanted = image.labels[ARTIFACT_DIGEST]
        if not target.is_file() or digest_of(target) != wanted:
            source = self._checked(digest)
            with self._store.blobs.scratch() as scratch:
                unpack_artifact(source, scratch / target.name, wanted)
                target.parent.mkdir(parents=True, exist_ok=True)
                (scratch / target.name).replace(target)
        return target

    def _remove_unpacked(self) -> None:
        with self._store.reading() as database:
            used = {row[0] for row in database.execute("SELECT digest FROM image_blobs WHERE kind = 'model'")}
        for folder in self._store.run.glob("artifacts/*"):
            if f"sha256:{folder.name}" not in used:
                remove_folder(folder)

    def _the_one(self, models: Sequence[str | Model]) -> Model:
        given = [models] if isinstance(models, str | Model) else list(models)
        if len(given) != 1:
            raise WorkspaceError(
                f"Image must hold one model, not {len(given)}", hint="Make an image for each model."
            )
        model = given[0] if isinstance(given[0], Model) else self._models.find(given[0])
        if len(model.name) > LONGEST_MODEL_NAME:
            raise WorkspaceError(
                f"Name of a model in an image must have at most {LONGEST_MODEL_NAME} letters, "
                f"not {len(model.name)}",
                hint="Register it under a shorter name.",
            )
        return model

    def _settled(self, image: Image) -> Image:
        """Look at the operation of an image that is being made: if its process died, the image has failed."""
        if image.state != ImageState.CREATING or not self._operations.get(image.operation).state.ended:
            return image
        with self._store.reading() as database:
            return self._image(database, version_row(database, "image", image.name, image.version))

    def _parts(self, image: Image) -> dict[str, tuple[str, int]]:
        """Digest and size of manifest, configuration and each layer; WorkspaceError if the image has none."""
        state = self.get(image.name, image.version).state
        if state != ImageState.SUCCEEDED:
            raise WorkspaceError(
                f"Image {image.id} must have succeeded, but is {state}",
                hint=f"`gatecast image log {image.id}` shows what happens.",
            )
        with self._store.reading() as database:
            rows = database.execute(
                "SELECT kind, digest, size FROM image_blobs WHERE name = ? AND version = ? ORDER BY position",
                (image.name, image.version),
            ).fetchall()
        return {kind: (digest, size) for kind, digest, size in rows}

    def _checked(self, digest: str) -> Path:
        path = self._store.blobs.existing(digest)
        if digest_of(path) != digest:
            raise FileError(
                f"File {path} must have the digest that is its name, but was changed",
                hint="Make the image again.",
            )
        return path

    def _image(self, database: sqlite3.Connection, row: sqlite3.Row) -> Image:
        models = database.execute(
            "SELECT model_name, model_version FROM image_models WHERE name = ? AND version = ?"
            " ORDER BY position",
            (row["name"], row["version"]),
        ).fetchall()
        return Image(
            name=row["name"],
            version=row["version"],
            state=ImageState(row["state"]),
            models=tuple(f"{name}:{version}" for name, version in models),
            target=row["target"],
            tags=json.loads(row["tags"]),
            properties=json.loads(row["properties"]),
            description=row["description"],
            created_time=to_time(row["created_time"]),
            digest=row["digest"],
            size=row["size"],
            labels=json.loads(row["labels"]),
            operation=row["operation"],
            log=self._store.log("image", row["operation"]),
        )


def succeed(
    database: sqlite3.Connection, image: Image, labels: Mapping[str, str], parts: Mapping[str, Blob]
) -> None:
    """Note that an image is made, of the blobs of its manifest, its configuration and its layers."""
    where = (image.name, image.version)
    database.execute(
        "UPDATE images SET state = ?, digest = ?, size = ?, labels = ? WHERE name = ? AND version = ?",
        (
            ImageState.SUCCEEDED,
            parts["manifest"].digest,
            sum(part.size for part in parts.values()),
            to_json(labels),
            *where,
        ),
    )
    database.executemany(
        "INSERT INTO image_blobs VALUES (?, ?, ?, ?, ?, ?)",
        [(*where, number, kind, part.digest, part.size) for number, (kind, part) in enumerate(parts.items())],
    )


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not 3 <= len(name) <= 32 or not _NAME.fullmatch(name):
        raise WorkspaceError(
            f"Name of an image must be 3 to 32 lower-case letters and digits, in words joined by '.' or '-', "
            f"not {name!r}",
            hint="Choose another name, such as resnet50 or resnet50-v2.",
        )
    return name


def _checked_base(base: str | os.PathLike[str] | None) -> str | None:
    if base is None:
        return None
    path = Path(base).absolute()
    if not path.is_file():
        raise FileError(
            f"Base {base} must be a file: a tar of a root file system",
            hint="Without one, the base that `gatecast image base` made is taken.",
        )
    return str(path)


def _refuse_use(database: sqlite3.Connection, image: Image) -> None:
    rows = database.execute(
        # A replica may run an image that its service was updated from.
        "SELECT name FROM services WHERE image_name = :name AND image_version = :version"
        " UNION SELECT service FROM replicas WHERE image_name = :name AND image_version = :version"
        " ORDER BY 1",
        {"name": image.name, "version": image.version},
    ).fetchall()
    if rows:
        kind = "service" if len(rows) == 1 else "services"
        raise ConflictError(
            f"Image {image.id} must not be in use to be deleted; {kind} {', '.join(row[0] for row in rows)} "
            f"{'runs' if len(rows) == 1 else 'run'} it",
            hint="Delete them first: `gatecast service delete NAME`.",
        )
