"""Layers that many images share, kept in the user's cache folder by what they are made of.

Packing the libraries takes some seconds, fetching a base needs the network: both happen once.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gatecast.errors import FileError
from gatecast.files import cache_folder as users_cache
from gatecast.files import replace_file

from .blobs import Blob, Measured, digest_of
from .layers import Entry, Layer, write_layer


@dataclass(frozen=True)
class CachedLayer:
    """A layer and the file that holds its compressed bytes; `facts` are plain data about it."""

    layer: Layer
    path: Path
    facts: Mapping[str, Any] = field(default_factory=dict)


class LayerCache:
    """The layers in one folder.

    Parameters
    ----------
    folder : Path
        Made when the first layer is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> CachedLayer | None:
        """Return a layer that was kept, None if there is none or its file is damaged."""
        try:
            data = json.loads(self._description(key).read_text(encoding="utf-8"))
            cached = CachedLayer(Layer(**data["layer"]), self._file(key), data["facts"])
            if digest_of(cached.path) != cached.layer.digest:
                return None
        except (OSError, ValueError, KeyError, TypeError, FileError):
            return None
        with suppress(OSError):  # a cache that may only be read is one, too
            os.utime(self._description(key))
        return cached

    def unused(self, before: datetime, kept: Collection[str]) -> list[Path]:
        """Return the files of layers that were neither made nor taken since a time, but for those of `kept`.

        What a process that died has left unfinished is among them. What is younger than an hour never is: a
        build may be about to take it.
        """
        before = min(before, datetime.now(UTC) - timedelta(hours=1))
        files = {path: path.stat().st_mtime for path in self.folder.glob("*") if path.is_file()}
        used = {_key(path) for path, time in files.items() if time >= before.timestamp()}
        return sorted(path for path in files if _key(path) not in used.union(kept))

    def add(
        self, key: str, kind: str, entries: Iterable[Entry], facts: Mapping[str, Any] | None = None
    ) -> CachedLayer:
        """Write a layer and keep it, whole or not at all; FileError if the folder cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            layer = write_layer(kind, entries, lambda parts: _keep(self._file(key), parts))
            description = json.dumps({"layer": asdict(layer), "facts": dict(facts or {})})
            replace_file(self._description(key), [description.encode()])
        except OSError as error:
            raise FileError(
                f"Layer {kind} cannot be kept in {self.folder}: {error.strerror or error}",
                hint="Make room there, or name another folder with GATECAST_CACHE.",
            ) from error
        return CachedLayer(layer, self._file(key), facts or {})

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.tar.gz"

    def _description(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _key(path: Path) -> str:
    return path.name if path.name.startswith(".") else path.name.partition(".")[0]


def _keep(path: Path, parts: Iterable[bytes]) -> Blob:
    measured = Measured(parts)
    replace_file(path, measured)
    return measured.blob


def cache_folder() -> Path:
    """Folder for layers: part of the user's cache."""
    return users_cache() / "layers"
