"""Services: images that run as replicas on a compute, behind the front door of the workspace.

What is wanted stands in the database; the supervisor makes it so.
"""

import json
import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Unpack

from gatecast import __version__
from gatecast.errors import ConflictError, NotFoundError, WorkspaceError

from . import supervision
from .capacity import Asked, check, machine_memory, replica_memory
from .computes import Compute, checked_count, compute_row
from .images import Image, Images, ImageState
from .labels import Filter, has_labels, split_id
from .models import Models
from .notes import Changes, Notes, changed_notes, first_notes
from .planning import ReplicaState, ServiceState
from .replicas import Replica, read_replicas, set_stopping
from .store import Store, now, to_json, to_time
from .waiting import look_until

LOST = "Replicas have ended; they are started again"
VERSION_LABEL = "io.gatecast.version"
MOST_REPLICAS = 1024
MOST_THREADS = 1024
DELETE_TIMEOUT_S = 120.0
_POLL_S = 0.05
_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,30}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service as it was when it was looked at.

    `image` is an id; empty in the last moments of a delete. `ready` replicas answer, of `replicas` wanted.
    `threads` share the work of one picture; None is a node's share of the processors. `reason` says why it
    is in its state, empty if there is nothing to say. `scoring_uri` is the address for gRPC, `rest_uri` that
    for REST; None until the front door listens. `models` are names that requests may use for it besides its
    own.
    """

    name: str
    compute: str
    image: str
    implicit_image: bool
    models: tuple[str, ...]
    replicas: int
    ready: int
    threads: int | None
    state: ServiceState
    reason: str
    scoring_uri: str | None
    rest_uri: str | None
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    description: str
    created_time: datetime
    updated_time: datetime


class Services:
    """The services of a workspace."""

    def __init__(self, store: Store, models: Models, images: Images) -> None:
        self._store = store
        self._models = models
        self._images = images

    def deploy(
        self,
        name: str,
        image: Image | str,
        compute: Compute | str,
        *,
        replicas: int = 1,
        threads: int | None = None,
        implicit_image: bool = False,
        **notes: Unpack[Notes],
    ) -> Service:
        """Begin to run an image; the service exists at once, as Transitioning.

        Parameters
        ----------
        name : str
            3 to 32 lower-case letters, digits and ``-``.
        image : Image or str
            The image, or ``NAME[:VERSION]``.
        compute : Compute or str
            The compute, or its name.
        replicas : int
            Servers; each takes a node.
        threads : int, optional
            Of each server; by default the processors divided by the compute's nodes.
        implicit_image : bool
            The image was made for this service and is deleted with it.
        tags, properties, description : optional
            Of the service.

        Raises
        ------
        WorkspaceError
            A wrong name, number, tag, property or description; an image that is not ready, or of another
            version of Gatecast.
        NotFoundError
            No such image or compute.
        ConflictError
            There is a service of that name.
        CapacityError
            It does not fit; nothing has changed.
        """
        image = self._checked_image(image)
        compute = compute.name if isinstance(compute, Compute) else compute
        memory = self._memory(image)
        values = {
            "name": _checked_name(name),
            "compute": compute,
            "image_name": image.name,
            "image_version": image.version,
            "implicit_image": image.id if implicit_image else "",
            "models": to_json(self._model_names(image)),
            "replicas": checked_count(replicas, "Replicas of a service", MOST_REPLICAS),
            "threads": _checked_threads(threads),
            "memory": memory,
            "state": ServiceState.TRANSITIONING,
            "time": now(),
            **first_notes(notes),
        }
        asked = Asked(name, compute, replicas, memory)
        with self._store.transaction() as database:
            if _find(database, name) is not None:
                raise ConflictError(
                    f"Service {name} must not exist yet; it does",
                    hint=f"`gatecast service update {name}` changes it, `… delete {name}` deletes it.",
                )
            compute_row(database, compute)
            check(database, asked, machine_memory())
            database.execute(
                "INSERT INTO services VALUES (:name, :compute, :image_name, :image_version, :implicit_image,"
                " :models, :replicas, :threads, :memory, 1, :state, '', :tags, :properties, :description,"
                " :time, :time)",
                values,
            )
        return self.get(name)

    def get(self, name: str) -> Service:
        """Return a service; NotFoundError if there is none."""
        self._ensure_supervised()
        with self._store.reading() as database:
            return _service(database, _row(database, name))

    def list(self, *, tags: Filter = (), properties: Filter = ()) -> list[Service]:
        """Return all services that have these tags and properties, by name."""
        self._ensure_supervised()
        with self._store.reading() as database:
            rows = database.execute("SELECT * FROM services ORDER BY name").fetchall()
            services = [_service(database, row) for row in rows]
        return [service for service in services if has_labels(service, tags, properties)]

    def replicas(self, service: Service | None = None) -> Sequence[Replica]:
        """Return the replicas of a service, or of all, the oldest first."""
        with self._store.reading() as database:
            return read_replicas(self._store, database, service.name if service else None)

    def supervisor(self) -> supervision.Running | None:
        """Return the process that keeps the services running; None if there is none, or it just starts."""
        return supervision.running(self._store)

    def update(
        self,
        service: Service,
        *,
        image: Image | str | None = None,
        replicas: int | None = None,
        threads: int | None = None,
        **changes: Unpack[Changes],
    ) -> Service:
        """Change a service; what is None stays. Calls go on being answered meanwhile.

        `changes` are as those of a model. It raises as `deploy` does, and ConflictError if the service is
        being deleted.
        """
        image = None if image is None else self._checked_image(image)
        names, memory = (self._model_names(image), self._memory(image)) if image else ([], 0)
        with self._store.transaction() as database:
            row = _row(database, service.name)
            if row["state"] == ServiceState.DELETING:
                raise ConflictError(f"Service {service.name} must not be changed while it is being deleted")
            values = dict(row) | changed_notes(row, service.name, changes)
            if image is not None:
                values |= {"image_name": image.name, "image_version": image.version, "memory": memory}
                values["models"] = to_json(names)
            if replicas is not None:
                values["replicas"] = checked_count(replicas, "Replicas of a service", MOST_REPLICAS)
            if threads is not None:
                values["threads"] = _checked_threads(threads)
            _change(database, row, values)
        return self.get(service.name)

    def wait(
        self,
        service: Service,
        timeout: float | None = None,
        on_update: Callable[[Service], None] | None = None,
        poll: float = _POLL_S,
    ) -> Service:
        """Wait until a service is no more Transitioning, at most `timeout` seconds; return it as it is then.

        `on_update` is called at once and at every look. NotFoundError if the service is deleted meanwhile.
        """
        name = service.name
        return look_until(lambda: self.get(name), lambda now: now.state.is_settled, timeout, on_update, poll)

    def logs(self, service: Service, lines: int = 5000) -> str:
        """Return the last lines of the supervisor and the replicas about a service, under their names."""
        events = self._store.log("service", service.name)
        replicas = [path for _, path in replica_logs(self._store, service.name)]
        texts = []
        for path in reversed([events, *replicas]):
            found = _tail(path, lines)
            lines -= len(found)
            if found:
                title = "events" if path == events else f"replica {path.stem.rpartition('.')[2]}"
                texts.append("\n".join([f"--- {title} ---", *found]))
        return "\n".join(reversed(texts)) + ("\n" if texts else "")

    def delete(self, service: Service, timeout: float = DELETE_TIMEOUT_S) -> None:
        """End a service: finish its calls, end its replicas; an image made for it goes too.

        Returns when all of it is gone. WorkspaceError if it takes longer than `timeout` seconds; it goes on.
        """
        with self._store.transaction() as database:
            _row(database, service.name)
            database.execute(
                "UPDATE services SET state = ?, reason = '', updated_time = ? WHERE name = ?",
                (ServiceState.DELETING, now(), service.name),
            )
        deadline = time.monotonic() + timeout
        while self._exists(service):
            self._ensure_supervised()
            if time.monotonic() > deadline:
                raise WorkspaceError(
                    f"Service {service.name} must be gone within {timeout:.3g} s, but is not",
                    hint="It is being deleted still; `gatecast status` shows what runs.",
                )
            time.sleep(_POLL_S)

    def _exists(self, service: Service) -> bool:
        with self._store.reading() as database:
            row = _find(database, service.name)
        return row is not None and to_time(row["created_time"]) == service.created_time

    def _ensure_supervised(self) -> None:
        with self._store.reading() as database:
            is_needed = database.execute("SELECT 1 FROM services LIMIT 1").fetchone() is not None
        if is_needed:
            supervision.ensure(self._store, self._note_lost)

    def _note_lost(self) -> None:
        """Note replicas that have ended while nobody looked after them, as after a restart of the machine."""
        with self._store.transaction() as database:
            lost = [
                replica
                for replica in read_replicas(self._store, database)
                if replica.process and not replica.process.is_alive()
            ]
            set_stopping(database, [replica.id for replica in lost])
            database.executemany(
                "UPDATE services SET state = ?, reason = ? WHERE name = ? AND state = ?",
                [
                    (ServiceState.UNHEALTHY, LOST, name, ServiceState.HEALTHY)
                    for name in {replica.service for replica in lost}
                ],
            )

    def _checked_image(self, image: Image | str) -> Image:
        image = self._images.find(image if isinstance(image, str) else image.id)
        if image.state is not ImageState.SUCCEEDED:
            raise WorkspaceError(
                f"Image {image.id} must have succeeded to be run, but is {image.state}",
                hint=f"`gatecast image log {image.id}` shows why.",
            )
        check_version(image)
        return image

    def _memory(self, image: Image) -> int:
        return replica_memory(self._images.artifact(image).stat().st_size)

    def _model_names(self, image: Image) -> Sequence[str]:
        """Names of the image's models, and of those that they were converted from."""
        names: dict[str, None] = {}
        for identity in image.models:
            model = self._models.find(identity)
            names[model.name] = None
            if model.parent is not None:
                names[split_id(model.parent, "a model")[0]] = None
        return tuple(names)


def check_version(image: Image) -> None:
    """Refuse an image that another version of Gatecast has made: it would not run as it was tested."""
    made_by = image.labels.get(VERSION_LABEL, "an unknown version")
    if made_by != __version__:
        raise WorkspaceError(
            f"Image {image.id} must be of Gatecast {__version__}, which is installed, "
            f"to run here, not of {made_by}",
            hint="Create the image again, or run it by a container tool.",
        )


def replica_logs(store: Store, service: str) -> list[tuple[int, Path]]:
    """Return number and log of the replicas of a service, the oldest first."""
    folder = store.log("replica", "any").parent
    found = []
    for path in folder.glob(f"{service}.*.log"):
        number = path.stem.rpartition(".")[2]
        if path.stem == f"{service}.{number}" and number.isdecimal():
            found.append((int(number), path))
    return sorted(found)


def _change(database: sqlite3.Connection, old: sqlite3.Row, values: dict[str, object]) -> None:
    """Write a service's new values; if its processes must change, check that they fit."""
    renewed = any(values[key] != old[key] for key in ("image_name", "image_version", "threads"))
    if renewed or values["replicas"] != old["replicas"]:
        replaced = old["memory"] if renewed else 0
        asked = Asked(
            old["name"], old["compute"], int(str(values["replicas"])), int(str(values["memory"])), replaced
        )
        check(database, asked, machine_memory())
        values |= {"state": ServiceState.TRANSITIONING, "reason": ""}
    values["generation"] = old["generation"] + renewed
    values["updated_time"] = now()
    columns = [key for key in values if key != "name"]
    database.execute(
        f"UPDATE services SET {', '.join(f'{key} = :{key}' for key in columns)} WHERE name = :name", values
    )


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or len(name) < 3 or not _NAME.fullmatch(name):
        raise WorkspaceError(
            "Name of a service must be 3 to 32 lower-case letters, digits or '-', start with a letter "
            f"and not end with '-', not {name!r}",
            hint="Choose another name.",
        )
    return name


def _checked_threads(threads: int | None) -> int | None:
    return None if threads is None else checked_count(threads, "Threads of a service", MOST_THREADS)


def _find(database: sqlite3.Connection, name: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = database.execute("SELECT * FROM services WHERE name = ?", (name,)).fetchone()
    return row


def _row(database: sqlite3.Connection, name: str) -> sqlite3.Row:
    row = _find(database, name)
    if row is None:
        raise NotFoundError(f"Service {name} is not known", hint="`gatecast service list` lists them.")
    return row


def _service(database: sqlite3.Connection, row: sqlite3.Row) -> Service:
    ready = database.execute(
        "SELECT count(*) FROM replicas WHERE service = ? AND state = ?", (row["name"], ReplicaState.READY)
    ).fetchone()[0]
    door = database.execute("SELECT * FROM front_door WHERE known").fetchone()
    return Service(
        name=row["name"],
        compute=row["compute"],
        image=f"{row['image_name']}:{row['image_version']}" if row["image_name"] else "",
        implicit_image=bool(row["implicit_image"]),
        models=tuple(json.loads(row["models"])),
        replicas=row["replicas"],
        ready=ready,
        threads=row["threads"],
        state=ServiceState(row["state"]),
        reason=row["reason"],
        scoring_uri=_uri(door["host"], door["port"]) if door else None,
        rest_uri=_uri(door["host"], door["rest_port"]) if door else None,
        tags=json.loads(row["tags"]),
        properties=json.loads(row["properties"]),
        description=row["description"],
        created_time=to_time(row["created_time"]),
        updated_time=to_time(row["updated_time"]),
    )


def _uri(host: str, port: int) -> str:
    return f"http://{host}/" if port == 80 else f"http://{host}:{port}/"


def _tail(path: Path, lines: int) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []
