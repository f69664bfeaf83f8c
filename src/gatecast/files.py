"""Write a file whole or not at all; where files that can be made again are kept."""

import os
import secrets
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
            replace_file(target, parts)
    except OSError as error:
        raise FileError(
            f"{what} {path} cannot be written: {error.strerror or error}",
            hint="Check that the folder exists, may be written, and has room.",
        ) from error


def replace_file(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write `parts` to a name of its own beside `path`, then rename it; other processes may do the same.

    OSError if that fails; then nothing is left behind.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        write_synced(unfinished, parts)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_synced(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a new file, its bytes on the disk; OSError if there is one already or it cannot be written."""
    with path.open("xb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


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
