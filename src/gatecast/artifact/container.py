"""The container of an artifact: a header, a table of sections, and sections with their SHA-256.

Reading refuses a flip of any byte and names the section that it is in. Ref: docs/spec/artifact.md §1.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from gatecast.errors import FileError

MAGIC = b"GCARTFCT"
MAJOR, MINOR = 1, 0
ALIGNMENT = 4096
"""Sections start at multiples of this many bytes, a page, so that they can be mapped."""

MAX_SECTIONS = 1024

_HEADER = struct.Struct("<8sHHIQ32s4xI")  # magic, major, minor, sections, file bytes, table SHA-256, CRC-32
_CHECKED = _HEADER.size - 4  # bytes of the header that its CRC-32 covers
_ENTRY = struct.Struct("<16sQQ32s")  # name, offset, length, SHA-256

Buffer = bytes | memoryview


@dataclass(frozen=True)
class Entry:
    """A line of the section table: name, first byte, bytes, SHA-256."""

    name: str
    offset: int
    length: int
    digest: bytes

    @property
    def end(self) -> int:
        """First byte after the section."""
        return self.offset + self.length


def align(offset: int) -> int:
    """Smallest multiple of a page that is not below `offset`."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def write_container(sections: Mapping[str, Buffer]) -> Iterator[Buffer]:
    """Yield the parts of the file in order; they depend on the content alone."""
    entries, end = [], _HEADER.size + _ENTRY.size * len(sections)
    for name, content in sections.items():
        entry = Entry(name, align(end), len(content), hashlib.sha256(content).digest())
        entries.append(entry)
        end = entry.end
    table = b"".join(_ENTRY.pack(e.name.encode(), e.offset, e.length, e.digest) for e in entries)
    digest = hashlib.sha256(table).digest()
    header = _HEADER.pack(MAGIC, MAJOR, MINOR, len(entries), end, digest, 0)[:_CHECKED]
    yield header + struct.pack("<I", zlib.crc32(header)) + table
    position = _HEADER.size + len(table)
    for entry, content in zip(entries, sections.values(), strict=True):
        yield bytes(entry.offset - position)
        yield content
        position = entry.end


def read_container(data: memoryview, where: str) -> dict[str, memoryview]:
    """Return the sections of a file, as views of `data`, in the order of the file.

    Parameters
    ----------
    where : str
        Name of the file, for messages.

    Raises
    ------
    FileError
        The file is truncated, damaged, of another kind or of a newer version; the section is named.
    """
    count, digest = _read_header(data, where)
    end = _HEADER.size + _ENTRY.size * count
    table = data[_HEADER.size : end]
    if len(table) != _ENTRY.size * count or hashlib.sha256(table).digest() != digest:
        raise FileError(f"Section table of {where} is damaged: its SHA-256 does not match")
    entries = [_entry(table, number, where) for number in range(count)]
    if len({entry.name for entry in entries}) != count:
        raise FileError(f"Section table of {where} must name each section once")
    _check_layout(data, Entry("section table", 0, end, b""), entries, where)
    return {entry.name: _checked(data, entry, where) for entry in entries}


def _read_header(data: memoryview, where: str) -> tuple[int, bytes]:
    if len(data) < _HEADER.size:
        raise FileError(f"Header of {where} is truncated: it must have {_HEADER.size} bytes, not {len(data)}")
    magic, major, minor, count, size, digest, checksum = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FileError(
            f"Header of {where} must begin with {MAGIC.decode()}: this is another kind of file",
            hint="`gatecast compile` makes artifacts from networks.",
        )
    if zlib.crc32(data[:_CHECKED]) != checksum:
        raise FileError(f"Header of {where} is damaged: its CRC-32 does not match")
    if major != MAJOR or minor > MINOR:
        raise FileError(
            f"Artifact {where} must be of version {MAJOR}.0 to {MAJOR}.{MINOR}, not {major}.{minor}",
            hint="Use a newer Gatecast, or compile the network again with this one.",
        )
    if len(data) != size:
        problem = "is truncated" if len(data) < size else "has bytes after its end"
        raise FileError(f"Artifact {where} {problem}: it must have {size} bytes, not {len(data)}")
    if not 1 <= count <= MAX_SECTIONS:
        raise FileError(f"Artifact {where} must have 1 to {MAX_SECTIONS} sections, not {count}")
    return count, digest


def _entry(table: memoryview, number: int, where: str) -> Entry:
    name, offset, length, digest = _ENTRY.unpack_from(table, _ENTRY.size * number)
    text = name.rstrip(b"\0").decode("ascii", "replace")
    if not text.isprintable() or not text:
        raise FileError(f"Section {number} of {where} must have a name of ASCII letters, not {name!r}")
    return Entry(text, offset, length, digest)


def _check_layout(data: memoryview, front: Entry, entries: list[Entry], where: str) -> None:
    """Sections follow each other on the next page, zeros between them, and the last one ends the file."""
    for before, entry in pairwise([front, *entries]):
        if entry.offset != align(before.end) or entry.end > len(data):
            raise FileError(f"Section {entry.name} of {where} must lie after {before.name}, inside the file")
        if any(data[before.end : entry.offset]):
            raise FileError(f"Padding before section {entry.name} of {where} is damaged: it must be 0")
    if entries[-1].end != len(data):
        raise FileError(f"Section {entries[-1].name} of {where} must end the file")


def _checked(data: memoryview, entry: Entry, where: str) -> memoryview:
    content = data[entry.offset : entry.end]
    found = hashlib.sha256(content).hexdigest()
    if found != entry.digest.hex():
        raise FileError(
            f"Section {entry.name} of {where} is damaged: "
            f"its SHA-256 must be {entry.digest.hex()}, not {found}"
        )
    return content
