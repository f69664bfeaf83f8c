"""The container of a Program: a header, a table of sections, and sections with their SHA-256.

See docs/spec/isa.md §7. Reading refuses a flip of any byte and names the section that it is in.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import FileError
from .ports import align

MAGIC = b"GCPROGRM"
MAJOR, MINOR = 1, 0
SECTIONS = ("text", "weights", "tables")

_HEADER = struct.Struct("<8sHHI16sI28x")
_HEADER_USED = 36
_ENTRY = struct.Struct("<16sQQ32s")
_FRONT = _HEADER.size + _ENTRY.size * len(SECTIONS)


@dataclass(frozen=True)
class Container:
    """Header fields and sections, in the order of the file.

    Parameters
    ----------
    digest : bytes
        Digest of the Architecture, 16 bytes.
    prologue : int
        Instructions of the prologue.
    sections : mapping of str to bytes-like
        `text`, `weights`, `tables`.
    """

    digest: bytes
    prologue: int
    sections: Mapping[str, bytes | memoryview]


@dataclass(frozen=True)
class _Entry:
    name: str
    offset: int
    length: int
    digest: bytes


def write_container(container: Container) -> bytes:
    """Bytes of the file; they depend on the content alone."""
    parts = [_HEADER.pack(MAGIC, MAJOR, MINOR, len(SECTIONS), container.digest, container.prologue)]
    contents = [container.sections[name] for name in SECTIONS]
    offset = align(_FRONT)
    for name, content in zip(SECTIONS, contents, strict=True):
        parts.append(_ENTRY.pack(name.encode(), offset, len(content), hashlib.sha256(content).digest()))
        offset += align(len(content))
    parts.append(_padding(_FRONT))
    for content in contents:
        parts += [bytes(content), _padding(len(content))]
    return b"".join(parts)


def _padding(length: int) -> bytes:
    return bytes(align(length) - length)


def read_container(data: memoryview) -> Container:
    """Container of a file; sections are views of `data`. FileError if it is no whole Program."""
    if len(data) < _HEADER.size:
        raise FileError(f"Program must have at least {_HEADER.size} bytes, not {len(data)}")
    magic, major, minor, count, digest, prologue = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FileError(f"Program must begin with {MAGIC.decode()}: this is another kind of file")
    if major != MAJOR or minor > MINOR:
        raise FileError(
            f"Program must be of version {MAJOR}.0 to {MAJOR}.{MINOR}, not {major}.{minor}",
            hint="Use a newer Gatecast, or compile the network again with this one.",
        )
    if count != len(SECTIONS):
        raise FileError(f"Program must have {len(SECTIONS)} sections, not {count}")
    entries = _read_entries(data)
    _check_padding(data, entries)
    return Container(digest, prologue, {entry.name: _checked(data, entry) for entry in entries})


def _read_entries(data: memoryview) -> list[_Entry]:
    if len(data) < _FRONT:
        raise FileError(
            f"Program is truncated: its section table ends at byte {_FRONT}, the file at {len(data)}"
        )
    entries, end = [], align(_FRONT)
    for position, expected in enumerate(SECTIONS):
        name, *rest = _ENTRY.unpack_from(data, _HEADER.size + _ENTRY.size * position)
        entry = _Entry(expected, *rest)
        if name != expected.encode().ljust(16, b"\0"):
            raise FileError(f"Section {position} of the Program must be {expected}, not {name!r}")
        if entry.offset != end:
            raise FileError(f"Section {expected} of the Program must begin at byte {end}, not {entry.offset}")
        end += align(entry.length)
        if end > len(data):
            raise FileError(
                f"Section {expected} of the Program is truncated: it ends at byte {end}, "
                f"the file at {len(data)}"
            )
        entries.append(entry)
    if len(data) != end:
        raise FileError(f"Program must have {end} bytes, not {len(data)}")
    return entries


def _check_padding(data: memoryview, entries: Sequence[_Entry]) -> None:
    gaps = [("header", _HEADER_USED, _HEADER.size), ("section table", _FRONT, align(_FRONT))]
    gaps += [(f"section {e.name}", e.offset + e.length, e.offset + align(e.length)) for e in entries]
    for name, start, stop in gaps:
        if any(data[start:stop]):
            raise FileError(f"Padding after the {name} of the Program is damaged: it must be 0")


def _checked(data: memoryview, entry: _Entry) -> memoryview:
    content = data[entry.offset : entry.offset + entry.length]
    found = hashlib.sha256(content).hexdigest()
    if found != entry.digest.hex():
        raise FileError(
            f"Section {entry.name} of the Program is damaged: its SHA-256 must be "
            f"{entry.digest.hex()}, not {found}"
        )
    return content
