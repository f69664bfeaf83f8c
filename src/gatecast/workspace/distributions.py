"""Installed Python packages as entries of layers: what serving needs, as it is installed here.

So an image holds the versions that were tested, and no package index is needed. Every module is compiled
ahead, since the root file system of a service may be read-only. Ref: docs/spec/image.md §2.
"""

import hashlib
import importlib.util
import marshal
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from gatecast.errors import WorkspaceError

from .layers import Entry, bytes_entry, epoch, file_entry

LIBRARIES = "opt/libraries"
"""Folder of the libraries in an image."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Version of Python for which compiled files and extensions are."""

NOT_SERVED = frozenset({"onnx", "pygments", "markdown-it-py"})
"""Requirements that no request ever needs: networks are compiled before, and rich only prints tables."""

_LEFT_OUT = (
    "onnxruntime/capi/libonnxruntime.so",  # the library for programs in C; Python has one of its own
    "onnxruntime/datasets/",
    "onnxruntime/quantization/",
    "onnxruntime/tools/",
    "onnxruntime/transformers/",
    "numpy/f2py/",
)
_LEFT_OUT_PARTS = frozenset({"__pycache__", "test", "tests"})
_LEFT_OUT_ENDINGS = (".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pyc", ".pyi", ".pyx", ".typed")
_LEFT_OUT_RECORDS = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_MARSHAL_VERSION = 2  # later ones note which objects are shared, which differs from run to run
_HASH_UNCHECKED = 0b01


def libraries(roots: Iterable[str] = ("gatecast",)) -> tuple[Distribution, ...]:
    """Distributions that serving needs besides Gatecast, sorted by name.

    Raises
    ------
    WorkspaceError
        One is not installed, or is installed so that its files are not known.
    """
    found: dict[str, Distribution] = {}
    waiting = [(root, "") for root in roots]
    while waiting:
        name, wanted_by = waiting.pop()
        if name in found or name in NOT_SERVED:
            continue
        found[name] = installed(name, wanted_by)
        waiting += ((wanted, name) for wanted in _requirements(found[name]))
    return tuple(found[name] for name in sorted(found) if name != "gatecast")


def library_entries(distributions: Iterable[Distribution]) -> Iterator[Entry]:
    """Entries of their files, without tests and sources of extensions; modules also compiled."""
    for package in distributions:
        for file in package.files or ():
            if not _is_left_out(str(file)):
                yield from with_compiled(f"{LIBRARIES}/{file}", Path(str(package.locate_file(file))))


def libraries_key(distributions: Iterable[Distribution]) -> str:
    """Digest of what a layer of them is made of: names, versions, the digests in their records, the time."""
    digest = hashlib.sha256(f"{sys.version_info[:3]} {sys.implementation.cache_tag} {epoch()}".encode())
    for package in distributions:
        lines = (f"{file} {file.hash.value if file.hash else ''}" for file in package.files or ())
        kept = sorted(line for line in lines if not _is_left_out(line.partition(" ")[0]))
        digest.update(f"{package.name} {package.version} {kept}\n".encode())
    rules = (_LEFT_OUT, sorted(_LEFT_OUT_PARTS), _LEFT_OUT_ENDINGS, _MARSHAL_VERSION)
    digest.update(repr(rules).encode())
    return digest.hexdigest()


def installed(name: str, wanted_by: str = "") -> Distribution:
    """Return a distribution whose files are known; WorkspaceError if there is none."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        reason = f", which {wanted_by} requires," if wanted_by else ""
        raise WorkspaceError(
            f"Package {name}{reason} must be installed to be put into an image",
            hint=f"Install it: `python -m pip install {name}`.",
        ) from None
    if package.files is None:
        raise WorkspaceError(
            f"Package {name} must be installed with a list of its files to be put into an image",
            hint=f"Install it again with pip: `python -m pip install --force-reinstall {name}`.",
        )
    return package


def _requirements(package: Distribution) -> Iterator[str]:
    """Names of what a package needs; what it needs under a condition counts if it is installed."""
    for requirement in package.requires or ():
        text, _, condition = requirement.partition(";")
        found = _REQUIREMENT.match(text)
        if not found or "extra" in condition:
            continue
        name = re.sub(r"[-_.]+", "-", found[1]).lower()  # Ref: PyPA, Names and normalization
        if not condition or _is_installed(name):
            yield name


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def with_compiled(path: str, source: Path) -> Iterator[Entry]:
    """Yield a file, and its compiled form if it is a module of Python."""
    yield file_entry(path, source)
    if source.suffix == ".py" and (code := _compiled(path, source)):
        folder, _, name = path.rpartition("/")
        yield bytes_entry(f"{folder}/__pycache__/{name[:-3]}.{sys.implementation.cache_tag}.pyc", code)


def _compiled(path: str, source: Path) -> bytes | None:
    """Bytes of a ``.pyc`` that is never compared with its source; None for a file that is no module."""
    text = source.read_bytes()
    try:
        with warnings.catch_warnings(action="ignore"):
            code = compile(text, f"/{path}", "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):  # a template, or a test of errors
        return None
    flags = _HASH_UNCHECKED.to_bytes(4, "little")
    head = importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(text)
    return head + marshal.dumps(code, _MARSHAL_VERSION)


def _is_left_out(name: str) -> bool:
    parts = name.split("/")
    return (
        parts[0] in ("", "..")
        or not _LEFT_OUT_PARTS.isdisjoint(parts[:-1])
        or name.endswith(_LEFT_OUT_ENDINGS)
        or name.startswith(_LEFT_OUT)
        or (parts[0].endswith(".dist-info") and parts[-1] in _LEFT_OUT_RECORDS)
    )
