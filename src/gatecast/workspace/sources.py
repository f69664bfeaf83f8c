"""The files that a path to be registered consists of, found and checked before anything is copied."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from gatecast.errors import FileError

MOST_FILES = 10_000
LARGEST = 1 << 37
"""Bytes of a model, all files together: 128 GiB."""


@dataclass(frozen=True)
class Source:
    """A file or a folder to be copied: `files` are paths in it, with ``/``, sorted, and where each lies."""

    name: str
    is_folder: bool
    files: tuple[tuple[str, Path], ...]


def find_source(path: Path, apart_from: Path | None = None) -> Source:
    """Find what a path holds.

    A link is followed if it leads to a plain file in the same folder or below it. The path may not hold the
    folder `apart_from`, which is the workspace itself.

    Raises
    ------
    FileError
        The path does not exist; it, or something in it, is neither file nor folder; a link leaves the folder
        or leads to a folder; the folder has no file, too many, or more bytes than `LARGEST`.
    """
    name = Path(os.path.abspath(path)).name
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
        if stat.S_ISREG(mode):
            files = [(_checked_path(name, real), real)]
        elif stat.S_ISDIR(mode):
            _refuse_holding(path, real, apart_from)
            files = sorted(_walk(real))
        else:
            raise FileError(f"Model {path} must be a file or a folder, not {_kind(mode)}")
        total = sum(file.stat().st_size for _, file in files)
    except OSError as error:
        raise FileError(
            f"Model {path} must be readable: {error.filename or path}: {error.strerror or error}",
            hint="Check the path.",
        ) from error
    except RuntimeError as error:
        raise FileError(f"Model {path} must not be a link that leads to itself") from error
    if not files:
        raise FileError(f"Model {path} must hold a file; the folder is empty", hint="Check the path.")
    if total > LARGEST:
        raise FileError(f"Model {path} must have at most {LARGEST:,} bytes, not {total:,}")
    return Source(name or "model", stat.S_ISDIR(mode), tuple(files))


def _refuse_holding(path: Path, real: Path, inner: Path | None) -> None:
    if inner is not None and inner.resolve().is_relative_to(real):
        raise FileError(
            f"Model {path} must not hold the workspace {inner.parent}",
            hint="Put the model's files into a folder of their own, and name that.",
        )


def _walk(root: Path) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                    continue
                relative = _checked_path(path.relative_to(root).as_posix(), path)
                found.append((relative, _plain_file(path, root)))
                if len(found) > MOST_FILES:
                    raise FileError(
                        f"Model {root} must have at most {MOST_FILES:,} files, not more",
                        hint="Name the folder of one model, not one that holds other things too.",
                    )
    return found


def _plain_file(path: Path, root: Path) -> Path:
    real = path.resolve(strict=True)
    if path.is_symlink() and not real.is_relative_to(root):
        raise FileError(
            f"Link {path} must stay in {root}, not lead to {real}",
            hint="Copy the folder with `cp -rL`, which copies what links lead to.",
        )
    mode = real.stat().st_mode
    if not stat.S_ISREG(mode):
        raise FileError(
            f"Path {path} in a model must be a file or a folder, not {_kind(mode)}",
            hint="Remove it, or copy the folder with `cp -rL`, which copies what links lead to.",
        )
    return real


def _checked_path(relative: str, path: Path) -> str:
    if not relative.isprintable():
        raise FileError(
            f"Path {str(path)!r} in a model must be printable text", hint="Give the file another name."
        )
    return relative


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a link to a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
