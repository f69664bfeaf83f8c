"""Removes what nobody needs any more and nothing else removes: old operations, logs, layers of the cache."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .base_image import SUITES, recipe_key
from .distributions import PYTHON, libraries, libraries_key
from .layer_cache import LayerCache, cache_folder
from .operations import Operation, Operations
from .schema import OPERATIONS_IN_USE
from .services import replica_logs
from .store import Store

LOGS = ("convert", "image", "replica", "service")
"""Folders of logs that grow with what is done; supervisor and front door have one log each."""


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be.

    `logs` are those of `operations`, and those that nothing in the workspace has written. `layers` are files
    of the user's cache. `size` is in bytes, of all files.
    """

    operations: tuple[Operation, ...]
    logs: tuple[Path, ...]
    layers: tuple[Path, ...]
    size: int


def prune(store: Store, operations: Operations, before: datetime, dry_run: bool) -> Pruned:
    """See `Workspace.prune`."""
    logs = [*(store.root / "logs").glob("*/*.log")]  # before rows are read: logs come later
    old = _old(store, operations, before)
    unneeded = [log for log in logs if log in {operation.log for operation in old}]
    unneeded += _of_nothing(store, logs)
    layers = LayerCache(cache_folder()).unused(before, kept=_current_layers())
    found = Pruned(tuple(old), tuple(sorted(unneeded)), tuple(layers), _size([*unneeded, *layers]))
    if not dry_run:
        _remove(store, old)
        for path in (*found.logs, *found.layers):
            path.unlink(missing_ok=True)
    return found


def _old(store: Store, operations: Operations, before: datetime) -> list[Operation]:
    with store.reading() as database:
        used = {row[0] for row in database.execute(OPERATIONS_IN_USE)}
    return [
        operation
        for operation in operations.list()
        if operation.ended_time and operation.ended_time < before and operation.id not in used
    ]


def _remove(store: Store, operations: Collection[Operation]) -> None:
    with store.transaction() as database:
        database.executemany(
            f"DELETE FROM operations WHERE id = ? AND id NOT IN ({OPERATIONS_IN_USE})",
            [(operation.id,) for operation in operations],
        )


def _of_nothing(store: Store, logs: Collection[Path]) -> list[Path]:
    """Return the logs of operations and services that are not in the workspace."""
    with store.reading() as database:
        operations = database.execute("SELECT kind, id FROM operations").fetchall()
        services = [row[0] for row in database.execute("SELECT name FROM services")]
    known = {path for service in services for _, path in replica_logs(store, service)}
    known |= {store.log("service", service) for service in services}
    known |= {store.log(kind, identity) for kind, identity in operations}
    return [log for log in logs if log.parent.name in LOGS and log not in known]


def _current_layers() -> tuple[str, ...]:
    """Keys of the layers that the next image would take: they stay, since a base must be fetched."""
    base = (recipe_key(),) if PYTHON in SUITES else ()
    return (*base, libraries_key(libraries()))


def _size(paths: Collection[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.exists())
