"""The layer that holds a model: written from an artifact, and the artifact taken out of it again."""

import hashlib
import tarfile
import zlib
from pathlib import Path
from typing import IO

from gatecast.errors import FileError

from .layers import Entry, file_entry

ARTIFACT_DIGEST = "io.gatecast.artifact.digest"
"""Label of an image: digest of the artifact in it."""

LARGEST = 16 << 30
"""Bytes of an artifact."""

_CHUNK = 1 << 20


def model_folder(name: str) -> str:
    """Return the folder of a model in an image; `gatecast serve` takes it."""
    return f"model/{name}"


def artifact_entry(name: str, source: Path) -> Entry:
    """Entry for an artifact as version 1 of a model."""
    return file_entry(f"{model_folder(name)}/1/{name}.gcast", source)


def unpack_artifact(layer: Path, target: Path, digest: str) -> None:
    """Write the one artifact of a compressed layer to `target`, read-only.

    Nothing else of the layer is written, and no name in it is used.

    Raises
    ------
    FileError
        The layer is damaged, or holds no artifact or more than one, or another than the one of `digest`.
    """
    try:
        with tarfile.open(layer, "r:gz") as tar:
            files = [member for member in tar if not member.isdir()]
            if len(files) != 1 or not files[0].isreg() or not files[0].name.endswith(".gcast"):
                raise _wrong(f"one .gcast file, not {len(files)} members")
            if files[0].size > LARGEST:
                raise _wrong(f"an artifact of at most {LARGEST} bytes, not {files[0].size}")
            with tar.extractfile(files[0]) as source:  # type: ignore[union-attr]
                found = _copied(source, target)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise _wrong(f"a sound archive: {error}") from error
    if found != digest:
        target.unlink()
        raise _wrong(f"the artifact {digest}, not {found}")
    target.chmod(0o444)


def _copied(source: IO[bytes], target: Path) -> str:
    digest = hashlib.sha256()
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return f"sha256:{digest.hexdigest()}"


def _wrong(must: str) -> FileError:
    return FileError(f"Layer of a model must hold {must}", hint="Make the image again.")
