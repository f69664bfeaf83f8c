"""Files by the SHA-256 of their content: each once, whole, read-only; what nothing refers to is removed.

A writer holds a shared lock from before its first blob until the rows that refer to its blobs are committed;
the collector holds it alone. A writer also keeps a folder of its own under ``tmp``, named by its process: if
the process dies, the next `clean` finds the folder, removes it, and collects what it left.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gatecast.errors import FileError, GatecastError, NotFoundError, WorkspaceError
from gatecast.files import sync_folder, write_synced

from .process import Process

CHUNK = 1 << 20
"""Bytes that are read at once."""


@dataclass(frozen=True)
class Blob:
    """One stored file: digest as ``sha256:…``, and bytes."""

    digest: str
    size: int


class Measured:
    """Passes parts of a file on, and knows digest and size of those that have passed."""

    def __init__(self, parts: Iterable[bytes | memoryview]) -> None:
        self._parts = parts
        self._digest, self._size = hashlib.sha256(), 0

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for part in self._parts:
            self._digest.update(part)
            self._size += len(part)
            yield part

    @property
    def blob(self) -> Blob:
        """What has passed."""
        return Blob(f"sha256:{self._digest.hexdigest()}", self._size)


class Adding:
    """Adds blobs; see `Blobs.adding`. `folder` is scratch space on the same file system, gone afterwards."""

    def __init__(self, blobs: "Blobs", folder: Path) -> None:
        self.folder = folder
        self._blobs = blobs

    def add(self, parts: Iterable[bytes | memoryview]) -> Blob:
        """Store the bytes of `parts`, one after the other."""
        path, measured = self.folder / secrets.token_hex(8), Measured(parts)
        try:
            with _explained("A file of the workspace"):
                write_synced(path, measured)
                self._keep(path, measured.blob)
        finally:
            path.unlink(missing_ok=True)
        return measured.blob

    def add_file(self, path: Path) -> Blob:
        """Store a copy of a plain file; FileError if it is none or cannot be read."""
        return self.add(_chunks(path))

    def _keep(self, path: Path, blob: Blob) -> None:
        target = self._blobs.path(blob)
        if not target.exists():
            path.chmod(0o444)
            path.rename(target)
            sync_folder(target.parent)


class Blobs:
    """The blobs in one folder.

    Parameters
    ----------
    folder : Path
        Holds ``blobs/sha256``, ``tmp`` and ``lock``.
    in_use : callable
        Gives the digests that rows refer to, now.
    """

    def __init__(self, folder: Path, in_use: Callable[[], set[str]]) -> None:
        self._folder = folder / "blobs" / "sha256"
        self._temporary = folder / "tmp"
        self._lock = folder / "lock"
        self._wanted = folder / "tmp" / "collect"
        self._in_use = in_use

    def path(self, blob: Blob | str) -> Path:
        """Return where a blob lies, by itself or by its digest; it need not exist."""
        digest = blob if isinstance(blob, str) else blob.digest
        return self._folder / digest.removeprefix("sha256:")

    def existing(self, digest: str) -> Path:
        """Return where a blob lies; NotFoundError if it does not."""
        path = self.path(digest)
        if not path.is_file():
            raise NotFoundError(
                f"File {digest} must be in the workspace, but {path} does not exist",
                hint="Someone removed files from the workspace; register the model again.",
            )
        return path

    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(path.stat().st_size for path in self._folder.iterdir())

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder on the same file system that is gone afterwards, also if this process dies."""
        folder = self._temporary / f"{Process.current()}-{secrets.token_hex(4)}"
        with _explained("A folder of the workspace"):
            folder.mkdir()
        try:
            yield folder
        finally:
            remove_folder(folder)

    @contextmanager
    def adding(self) -> Iterator[Adding]:
        """Give what adds blobs; nothing is collected until the block ends, so commit rows within it."""
        try:
            with self._locked(fcntl.LOCK_SH), self.scratch() as folder:
                yield Adding(self, folder)
        except BaseException:
            # The first fault is what matters; what cannot be collected now is when the disk is well again.
            with suppress(GatecastError, OSError):
                self._wanted.touch()
                self.collect()
            raise

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Delete rows within this block; blobs that they alone used are removed after it."""
        try:
            with self._locked(fcntl.LOCK_SH):
                with _explained("A note in the workspace"):
                    self._wanted.touch()
                yield
        finally:
            self.collect()

    def collect(self) -> list[str]:
        """Remove the blobs that no row refers to, and return their digests.

        While a writer is at work nothing is removed; the next `clean` or `collect` does it.
        """
        try:
            with self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
                used = self._in_use()
                unused = [path for path in self._folder.iterdir() if f"sha256:{path.name}" not in used]
                for path in unused:
                    path.unlink()
                self._wanted.unlink(missing_ok=True)
        except BlockingIOError:
            self._wanted.touch()
            return []
        return [f"sha256:{path.name}" for path in unused]

    def clean(self) -> None:
        """Remove what processes that died have left."""
        left = [path for path in self._temporary.iterdir() if path != self._wanted and not _is_kept(path)]
        if left:
            self._wanted.touch()
        for path in left:
            remove_folder(path)
        if self._wanted.exists():
            self.collect()

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        handle = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all in it, or a file; no error if it is gone."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """Return the digest of a file's content."""
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _is_kept(path: Path) -> bool:
    process = Process.from_text(path.name.rpartition("-")[0])
    return process is not None and process.is_alive()


def _chunks(path: Path) -> Iterator[bytes]:
    """Read a plain file; what became something else since it was looked at is refused, never waited for."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileError(f"File {path} must be a plain file")
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise FileError(
            f"File {path} must be readable: {error.strerror or error}", hint="Check the path."
        ) from error


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise WorkspaceError(
            f"{what} cannot be written: {error.strerror or error}",
            hint="Make room on the disk that holds the workspace; nothing was changed."
            if full
            else "Check that the workspace's folder may be written; nothing was changed.",
        ) from error
