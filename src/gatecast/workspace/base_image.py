"""The lowest layer of an image: Python and the system's libraries, without a shell.

It is unpacked from packages of Debian by mmdebstrap, as this module's recipe says, or it is a root file
system that the user gives. Ref: docs/spec/image.md §3.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from gatecast.errors import DownloadError, WorkspaceError

from .distributions import PYTHON
from .layer_cache import CachedLayer, LayerCache, cache_folder
from .layers import Entry, bytes_entry, epoch
from .root_tar import SYMBOL, RootTar, open_root_tar

_LOG = logging.getLogger(__name__)

USER = 65532
"""Number of the user and the group that a service runs as; distroless images use the same."""

SUITES = {"3.11": "bookworm", "3.13": "trixie"}
"""Release of Debian that has a version of Python."""

PACKAGES = ("base-files", "ca-certificates", "libgomp1", "libstdc++6", "netbase", "tini", "tzdata")
"""Of Debian, besides those of Python."""

UNUSED = (
    *("bin/*", "sbin/*", "usr/sbin/*", "usr/bin/*", "usr/games/*", "usr/include/*", "usr/src/*", "dev/*"),
    *("usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian/*", "usr/share/perl*"),
    *("usr/share/bash-completion/*", "usr/share/debconf/*", "usr/share/zoneinfo/right/*", "usr/share/bug/*"),
    *("usr/lib/*/gconv/*", "usr/lib/*/perl*", "usr/lib/*/engines-3/*", "usr/lib/dpkg/*", "usr/lib/tar/*"),
    *("usr/lib/python3*/ensurepip/*", "usr/lib/python3*/idlelib/*", "usr/lib/python3*/lib2to3/*"),
    *("usr/lib/python3*/pydoc_data/*", "usr/lib/python3*/test/*", "usr/lib/python3*/turtledemo/*"),
    *("usr/lib/python3*/lib-dynload/_test*", "var/lib/*", "var/cache/*", "var/log/*", "var/backups/*"),
    *("etc/apt/*", "etc/cron*", "etc/kernel/*", "etc/dpkg/*", "etc/init.d/*", "etc/debconf.conf"),
)
"""What no service needs, the shell among it, as patterns of paths; `KEPT` stays."""

KEPT = ("usr/bin/python3.*", "usr/bin/tini")

MOUNT_POINTS = {"dev": 0o755, "etc": 0o755, "proc": 0o755, "run": 0o755, "sys": 0o755, "tmp": 0o1777}
"""Folders that a runtime mounts something on, with their modes; on a read-only root it cannot make them."""

_PASSWD = (
    f"root:x:0:0:root:/:/usr/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/home/nonroot:/usr/sbin/nologin\n"
)
_GROUP = f"root:x:0:\nnonroot:x:{USER}:\n"
_AUTHORITIES = "usr/share/ca-certificates/*.crt"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_RULES = 3  # counted up when entries are made otherwise of the same files
_TOOL = "mmdebstrap"


@dataclass(frozen=True)
class Base:
    """A base as an image is built on it.

    Parameters
    ----------
    cached : CachedLayer
    name : str
        For people: the release of Debian, or the file it came from.
    python : str
        Path of the interpreter in the image.
    init : str
        Path of tini, empty where the base has none.
    symbols : frozenset of str
        Versions of symbols that its C and C++ libraries offer.
    """

    cached: CachedLayer
    name: str
    python: str
    init: str
    symbols: frozenset[str]

    @classmethod
    def of(cls, cached: CachedLayer) -> "Base":
        """Return the base that a cached layer is."""
        facts = cached.facts
        return cls(cached, facts["name"], facts["python"], facts["init"], frozenset(facts["symbols"]))

    def check_extension(self, extension: Path) -> None:
        """Refuse an extension that needs newer libraries than the base has: WorkspaceError."""
        needed = {symbol.decode() for symbol in SYMBOL.findall(extension.read_bytes())}
        if missing := sorted(needed - self.symbols):
            raise WorkspaceError(
                f"Base {self.name} must have libraries as new as those {extension.name} was built with, "
                f"but lacks {', '.join(missing)}",
                hint="Build Gatecast on the release of Debian that the base is of, or give a newer base.",
            )


def find_base(cache: LayerCache | None = None) -> Base | None:
    """Return the base that `build_base` made before, None if it did not."""
    if PYTHON not in SUITES:
        return None
    cached = (cache or LayerCache(cache_folder())).get(recipe_key())
    return Base.of(cached) if cached else None


def build_base(mirror: str | None = None, cache: LayerCache | None = None) -> Base:
    """Fetch packages of Debian and keep the base they make; one that was kept is replaced.

    Parameters
    ----------
    mirror : str, optional
        Address of an archive of Debian; by default that of the project, with its security updates.
    cache : LayerCache, optional
        By default the user's.

    Raises
    ------
    WorkspaceError
        No release of Debian has this Python, or mmdebstrap is not installed.
    DownloadError
        mmdebstrap failed; its last lines are given.
    FileError
        The result cannot be kept.
    """
    if PYTHON not in SUITES:
        known = " and ".join(f"{suite} has {version}" for version, suite in SUITES.items())
        raise WorkspaceError(
            f"Python must be of a version that Debian has, not {PYTHON}",
            hint=f"Of Debian, {known}. Run Gatecast with one of these, or give a base with `--base`.",
        )
    if shutil.which(_TOOL) is None:
        raise WorkspaceError(
            f"Program {_TOOL} must be installed to build a base, but is not found",
            hint="Debian, Ubuntu: apt install mmdebstrap. Or give a root file system with `--base`.",
        )
    with tempfile.TemporaryDirectory(prefix="gatecast-") as folder:
        tar = Path(folder) / "root.tar"
        _run_mmdebstrap(tar, mirror)
        with open_root_tar(tar, Path(folder)) as root:
            name = f"debian:{SUITES[PYTHON]}"
            entries = _debian_entries(root)
            return _kept(cache or LayerCache(cache_folder()), recipe_key(), name, root, entries)


def read_base(cache: LayerCache, path: Path) -> Base:
    """Return the base that a root file system in a tar, perhaps compressed by gzip, makes.

    Raises
    ------
    FileError
        The file is no tar, is too large, or a member of it could leave the image.
    WorkspaceError
        It lacks this version of Python, or is of another kind of machine.
    """
    with tempfile.TemporaryDirectory(prefix="gatecast-") as folder, open_root_tar(path, Path(folder)) as root:
        key = hashlib.sha256(f"{root.digest} {epoch()} {_RULES}".encode()).hexdigest()
        if cached := cache.get(key):
            return Base.of(cached)
        return _kept(cache, key, path.name, root, list(root.entries()))


def _kept(cache: LayerCache, key: str, name: str, root: RootTar, entries: Sequence[Entry]) -> Base:
    facts = {
        "name": name,
        "python": root.python(PYTHON, platform.machine()),
        "init": root.init(),
        "symbols": sorted(root.symbols()),
    }
    found = {entry.path for entry in entries}
    missing = [Entry(path, "folder", mode) for path, mode in MOUNT_POINTS.items() if path not in found]
    return Base.of(cache.add(key, "base", [*entries, *missing], facts))


def recipe_key() -> str:
    """Return the key of the layer that `build_base` keeps; KeyError for a Python of no Debian."""
    recipe = (_RULES, SUITES[PYTHON], _packages(), UNUSED, KEPT, platform.machine(), epoch())
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


def _packages() -> tuple[str, ...]:
    return (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", *PACKAGES)


def _run_mmdebstrap(tar: Path, mirror: str | None) -> None:
    """Unpack the packages, without running any of their scripts, into a tar."""
    # Without scripts the second mode touches nothing outside, and it needs neither root nor helpers.
    mode = "root" if os.geteuid() == 0 else "chrootless"
    command = [_TOOL, "--variant=extract", f"--mode={mode}", f"--include={','.join(_packages())}"]
    command += [SUITES[PYTHON], str(tar), *([mirror] if mirror else [])]
    _LOG.info("Fetching packages of Debian: %s", " ".join(command))
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch())},
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:", "Err"))]
        said = "; ".join((lines or done.stderr.splitlines())[-3:])
        raise DownloadError(
            f"Packages of Debian for a base could not be fetched: {said}",
            hint="Check that the archive can be reached; `--mirror URL` names another.",
        )


def _debian_entries(root: RootTar) -> list[Entry]:
    """Entries of the recipe: without what is not used, with users and one file of all authorities."""
    found = {entry.path: _settled(entry) for entry in root.entries() if _is_used(entry.path)}
    authorities = sorted(path for path in found if fnmatchcase(path, _AUTHORITIES))
    bundle = b"".join(root.read(path).rstrip(b"\n") + b"\n" for path in authorities)
    made = (
        bytes_entry("etc/passwd", _PASSWD.encode()),
        bytes_entry("etc/group", _GROUP.encode()),
        bytes_entry(_BUNDLE, bundle),
        Entry("home/nonroot", "folder", 0o755, uid=USER, gid=USER),
        Entry("usr/bin/python3", "link", 0o777, target=f"python{PYTHON}"),
    )
    return list({**found, **{entry.path: entry for entry in made}}.values())


def _settled(entry: Entry) -> Entry:
    """Give an entry the owner and mode that it has whoever unpacked it."""
    if entry.kind == "folder":
        entry = replace(entry, mode=0o1777 if entry.path in ("tmp", "var/tmp") else 0o755)
    return replace(entry, uid=0, gid=0)


def _is_used(path: str) -> bool:
    if path.startswith("usr/share/doc/"):
        return path.endswith("/copyright")
    return any(fnmatchcase(path, kept) for kept in KEPT) or not any(
        fnmatchcase(path, unused) for unused in UNUSED
    )
