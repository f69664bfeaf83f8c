"""Write a file whole or not at all; where files that can be made again are kept."""

import os
from collections.abc import Iterable
from pathlib import Path

from gatecast.errors import FileError


def write_whole(path: Path, parts: Iterable[bytes | memoryview], what: str = "File") -> None:
    """Write `parts`, one after the other, to a temporary name beside `path`, then rename it.

    An old file stays until the new one is on the disk; a failure leaves nothing behind. A link stays a link:
    the file it leads to is replaced. What is no file, such as /dev/null or a pipe, is written to as it is.

    Raises
    ------
    FileError
        The file cannot be written; `what` and the path are named.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                file.writelines(parts)
        else:
            _replace(target, parts)
    except OSError as error:
        raise FileError(
            f"{what} {path} cannot be written: {error.strerror or error}",
            hint="Check that the folder exists, may be written, and has room.",
        ) from error


def _replace(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the folder's entry on the disk too, so that a power cut cannot bring the old name back."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """Return the folder for what can be fetched or made again: `GATECAST_CACHE`, else XDG's ``gatecast``."""
    if named := os.environ.get("GATECAST_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gatecast"
