"""A root file system in a tar: its members as entries of a layer, and what kind of system it is.

The tar may be anyone's: a member that could leave the image is refused, devices are left out, bits that give
a program its owner's rights are taken away. Ref: docs/spec/image.md §3.
"""

import gzip
import hashlib
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from gatecast.errors import FileError, WorkspaceError

from .layers import Entry, check_path

LARGEST = 4 << 30
"""Bytes of a root file system, unpacked."""

MOST_MEMBERS = 200_000

_PYTHON = re.compile(r"usr/(?:local/)?bin/python(3\.[0-9]+)")
_INIT = re.compile(r"(?:usr/)?s?bin/tini")
_LIBRARIES = re.compile(
    r"(?:usr/)?lib(?:64)?/(?:[a-z0-9_-]+-linux-gnu/)?(?:libc\.so\.6|libm\.so\.6|libstdc\+\+\.so\.6\.[0-9.]+)"
)
SYMBOL = re.compile(rb"(?<=\0)(?:GLIBC|GLIBCXX|CXXABI)_[0-9.]+(?=\0)")
"""Version of a symbol in a library, as the linker wrote it."""

_MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243, "ppc64le": 21}
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_HINT = "Give a tar of a root file system, such as `docker export` or `mmdebstrap` write."


class RootTar:
    """A tar that is open, its members known; see `open_root_tar`."""

    def __init__(self, tar: tarfile.TarFile, where: str, digest: str) -> None:
        self.digest = digest
        self._tar, self._where = tar, where
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in self._listed():
            path = check_path(member.name, where)
            if path in self._members:
                raise FileError(f"Member {path} of {where} must come once", hint=_HINT)
            if path:
                self._members[path] = member
        if sum(self._size(member) for member in self._members.values()) > LARGEST:
            raise FileError(f"Root file system {where} must have at most {LARGEST} bytes", hint=_HINT)

    def entries(self) -> Iterator[Entry]:
        """Entries of all members but devices, with their owners."""
        for path, member in self._members.items():
            uid, gid = member.uid, member.gid
            if member.isdir():
                yield Entry(path, "folder", member.mode & 0o1777, uid=uid, gid=gid)
            elif member.issym():
                yield Entry(path, "link", 0o777, target=member.linkname, uid=uid, gid=gid)
            elif member.isreg() or member.islnk():
                size, content = self._size(member), self._opener(member)
                yield Entry(path, "file", member.mode & 0o777, size, content, uid=uid, gid=gid)

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        with self._opener(self._members[path])() as file:
            return file.read()

    def python(self, version: str, machine: str) -> str:
        """Return where the interpreter lies; WorkspaceError if it is not of this version or machine."""
        found = {match[1]: path for path in self._members if (match := _PYTHON.fullmatch(path))}
        if version not in found:
            others = ", ".join(sorted(found)) or "none in usr/bin or usr/local/bin"
            raise WorkspaceError(
                f"Base {self._where} must have Python {version}, as Gatecast runs here, not {others}",
                hint="Run Gatecast with the base's version of Python, or give another base.",
            )
        head = self.read(found[version])[:20]
        if len(head) < 20 or struct.unpack_from("<H", head, 18)[0] != _MACHINES.get(machine, -1):
            raise WorkspaceError(
                f"Base {self._where} must be for {machine}, like this machine",
                hint="Give a base that was made for this kind of machine.",
            )
        return f"/{found[version]}"

    def init(self) -> str:
        """Return where tini lies, empty if there is none."""
        return next((f"/{path}" for path in sorted(self._members) if _INIT.fullmatch(path)), "")

    def symbols(self) -> set[str]:
        """Versions of symbols that the C and C++ libraries offer."""
        names = [path for path in self._members if _LIBRARIES.fullmatch(path)]
        files = [name for name in names if self._members[name].isreg()]
        return {symbol.decode() for name in files for symbol in SYMBOL.findall(self.read(name))}

    def _listed(self) -> list[tarfile.TarInfo]:
        members: list[tarfile.TarInfo] = []
        try:
            for member in self._tar:
                members.append(member)
                if len(members) > MOST_MEMBERS:
                    break
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise FileError(f"Root file system {self._where} must be a sound tar: {error}", _HINT) from error
        if not 0 < len(members) <= MOST_MEMBERS:
            raise FileError(
                f"Root file system {self._where} must have 1 to {MOST_MEMBERS} members", hint=_HINT
            )
        return members

    def _size(self, member: tarfile.TarInfo) -> int:
        return self._linked(member).size if member.isreg() or member.islnk() else 0

    def _linked(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Return the file that a member is another name of, or itself."""
        if not member.islnk():
            return member
        target = self._members.get(check_path(member.linkname, self._where))
        if target is None or not target.isreg():
            raise FileError(
                f"Member {member.name} of {self._where} must be another name of a file before it, "
                f"not of {member.linkname!r}",
                hint=_HINT,
            )
        return target

    def _opener(self, member: tarfile.TarInfo) -> Callable[[], BinaryIO]:
        file = self._linked(member)
        return lambda: cast(BinaryIO, self._tar.extractfile(file))


@contextmanager
def open_root_tar(path: Path, scratch: Path) -> Iterator[RootTar]:
    """Open a tar, plain or compressed by gzip.

    Parameters
    ----------
    scratch : Path
        Folder where a compressed one is unpacked.

    Raises
    ------
    FileError
        It is missing, no tar, or too large; or a member could leave the image, or comes twice.
    """
    digest, tar = _opened(path, scratch)
    with tar:
        yield RootTar(tar, path.name, digest)


def _opened(path: Path, scratch: Path) -> tuple[str, tarfile.TarFile]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            compressed = file.read(2) == _GZIP
            file.seek(0)
            if compressed:
                _decompress(file, scratch / "unpacked.tar", path.name)
        plain = scratch / "unpacked.tar" if compressed else path
        return digest, tarfile.open(plain, "r:", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise FileError(
            f"Root file system {path} cannot be read: {error.strerror or error}", _HINT
        ) from error
    except tarfile.TarError as error:
        raise FileError(f"Root file system {path} must be a tar: {error}", _HINT) from error


def _decompress(file: IO[bytes], target: Path, where: str) -> None:
    size = 0
    try:
        with target.open("xb") as out, gzip.open(file) as unpacked:
            while part := unpacked.read(_CHUNK):
                size += len(part)
                if size > LARGEST:
                    raise FileError(f"Root file system {where} must unpack to at most {LARGEST} bytes", _HINT)
                out.write(part)
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise FileError(f"Root file system {where} must be whole: {error}", hint=_HINT) from error
