"""Layers of an image: a tar of files, compressed, the same bytes for the same files.

Entries are sorted; owner, group, time and mode are those the layer gives, never those of this machine.
Compressed bytes depend on the build of zlib, so two machines may differ in `digest`, never in `diff_id`.
Ref: docs/spec/image.md §2.
"""

import hashlib
import io
import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, Protocol

from gatecast.errors import FileError

Kind = Literal["file", "folder", "link"]

_LEVEL = 5  # 1 % larger than 6, in two thirds of the time
_CHUNK = 1 << 20
_WHITEOUT = ".wh."
_EXECUTABLE, _PLAIN = 0o755, 0o644
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # deflate, no flags, time 0, unknown system
_TYPES = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}


class Kept(Protocol):
    """What is known of bytes that were stored."""

    @property
    def digest(self) -> str:
        """``sha256:…`` of them."""

    @property
    def size(self) -> int:
        """How many they are."""


@dataclass(frozen=True)
class Entry:
    """One file, folder or symbolic link of a layer.

    Parameters
    ----------
    path : str
        From the root of the image, without a slash in front.
    kind : str
        ``file``, ``folder`` or ``link``.
    mode : int
        Permission bits.
    size : int
        Bytes of a file.
    open : callable, optional
        Opens the content of a file.
    target : str
        Where a link leads.
    uid, gid : int
        Owner and group.
    """

    path: str
    kind: Kind = "file"
    mode: int = _PLAIN
    size: int = 0
    open: Callable[[], BinaryIO] | None = None
    target: str = ""
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Layer:
    """A layer as it was written.

    Parameters
    ----------
    kind : str
        What it holds: ``base``, ``libraries``, ``gatecast`` or ``model``.
    digest, diff_id : str
        ``sha256:…`` of the compressed bytes, and of the tar in them.
    size : int
        Compressed bytes.
    """

    kind: str
    digest: str
    diff_id: str
    size: int


def epoch() -> int:
    """Time in seconds that everything in an image bears: `SOURCE_DATE_EPOCH`, else 0.

    Raises
    ------
    FileError
        The variable is no count of seconds.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise FileError(
            f"SOURCE_DATE_EPOCH must be a count of seconds, not {text!r}", hint="Unset it, or mend it."
        )
    return int(text)


def file_entry(path: str, source: Path) -> Entry:
    """Entry for a file of this machine; of its mode only whether its owner may run it is kept."""
    status = source.stat()
    mode = _EXECUTABLE if status.st_mode & stat.S_IXUSR else _PLAIN
    return Entry(path, "file", mode, status.st_size, lambda: source.open("rb"))


def bytes_entry(path: str, data: bytes) -> Entry:
    """Entry for a file with this content."""
    return Entry(path, "file", _PLAIN, len(data), lambda: io.BytesIO(data))


def write_layer(kind: str, entries: Iterable[Entry], keep: Callable[[Iterator[bytes]], Kept]) -> Layer:
    """Write entries as one compressed layer; folders above them are added.

    Parameters
    ----------
    kind : str
        What the layer holds.
    keep : callable
        Stores the bytes, and says which digest and size they have.

    Raises
    ------
    FileError
        A path leads out of the image, comes twice, or lies under a file; a file changed while it was read.
    """
    plain = hashlib.sha256()
    kept = keep(gzip_parts(tar_parts(entries), plain.update))
    return Layer(kind, kept.digest, f"sha256:{plain.hexdigest()}", kept.size)


def gzip_parts(parts: Iterable[bytes], seen: Callable[[bytes], object]) -> Iterator[bytes]:
    """Compress, without a name and without a time; `seen` gets what comes in. Ref: RFC 1952."""
    checksum, size = 0, 0
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    yield _GZIP_HEADER
    for part in parts:
        seen(part)
        checksum, size = zlib.crc32(part, checksum), size + len(part)
        if packed := deflate.compress(part):
            yield packed
    yield deflate.flush()
    yield struct.pack("<II", checksum, size & 0xFFFFFFFF)


def tar_parts(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield a tar of the entries, sorted, with the folders above them; errors are those of `write_layer`."""
    time, size = epoch(), 0
    for entry in _ordered(entries):
        info = tarfile.TarInfo(entry.path)
        info.type, info.linkname = _TYPES[entry.kind], entry.target
        info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.uid, entry.gid, time
        info.size = entry.size
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        size += len(header) + entry.size
        yield header
        if entry.size:
            yield from _content(entry)
        if rest := -entry.size % tarfile.BLOCKSIZE:
            size += rest
            yield bytes(rest)
    yield bytes(2 * tarfile.BLOCKSIZE + (-size - 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE)


def _content(entry: Entry) -> Iterator[bytes]:
    left = entry.size
    with entry.open() if entry.open else io.BytesIO() as file:
        while chunk := file.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise FileError(
            f"File {entry.path} must stay as it is while it is copied into a layer, but its size changed",
            hint="Try again when nothing writes to it.",
        )


def check_path(path: str, where: str) -> str:
    """Return a member's path without ``./`` in front; FileError if it could leave the image.

    Parameters
    ----------
    where : str
        What holds the member, for the message.
    """
    clean = path.removeprefix("./").rstrip("/")
    parts = PurePosixPath(clean).parts
    unsafe = clean.startswith("/") or ".." in parts or "\0" in clean
    if unsafe or (clean and str(PurePosixPath(clean)) != clean):
        raise FileError(f"Member of {where} must stay inside the image, not {path!r}")
    if any(part.startswith(_WHITEOUT) for part in parts):
        raise FileError(f"Member of {where} must not be a mark of a deleted file, as {path!r} is")
    return "" if clean == "." else clean


def _ordered(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Sort by path, add folders that are missing; a folder comes before what is in it."""
    known: dict[str, Entry] = {}
    for entry in entries:
        if not check_path(entry.path, "a layer") or entry.path in known:
            raise FileError(f"Path of a layer must come once and have a name, not {entry.path!r}")
        known[entry.path] = entry
    for path in list(known):
        for parent in PurePosixPath(path).parents:
            above = known.setdefault(str(parent), Entry(str(parent), "folder", _EXECUTABLE))
            if above.kind != "folder" and str(parent) != ".":
                raise FileError(f"Path {path!r} of a layer must lie in a folder, not under the file {parent}")
    known.pop(".", None)
    return iter(sorted(known.values(), key=lambda entry: PurePosixPath(entry.path).parts))
