"""Gatecast's own files that serving needs, found by following its imports.

So an image has no compiler, no importer and no hardware. Ref: docs/spec/image.md §2.
"""

import ast
import importlib.util
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import gatecast

from .distributions import installed, with_compiled
from .layers import Entry, bytes_entry, file_entry

GATECAST = "opt/gatecast"
"""Folder of Gatecast itself in an image."""

_ROOTS = ("gatecast.__main__", "gatecast.cli.serve")
_DEVICES = "gatecast.devices"  # the group of entry points, and the package of those that are served


def gatecast_entries() -> Iterator[Entry]:
    """Entries of the modules, of the data in their packages, and of the extension where it was built."""
    folder = Path(gatecast.__file__).parent.parent
    modules = served_modules()
    for path in modules.values():
        yield from with_compiled(f"{GATECAST}/{path.relative_to(folder).as_posix()}", path)
    for package in sorted({path.parent for path in modules.values()}):
        for path in package.iterdir():
            if path.is_file() and path.suffix not in (".py", ".pyi", ".typed", ".so"):
                yield file_entry(f"{GATECAST}/{path.relative_to(folder).as_posix()}", path)
    if extension := native_extension():
        yield file_entry(f"{GATECAST}/gatecast/{extension.name}", extension)
    yield from _metadata_entries()


def served_modules() -> dict[str, Path]:
    """Names and files of all modules that the server, and a device of the package `devices`, can import."""
    found: dict[str, Path] = {}
    waiting = [*_ROOTS, *(entry.module for entry in _device_entries())]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting.append(name.rpartition(".")[0])
        waiting += _imports(name, path)
    return dict(sorted(found.items()))


def native_extension() -> Path | None:
    """File of the extension `gatecast._native`, None where it was not built."""
    spec = importlib.util.find_spec("gatecast._native")
    return Path(spec.origin) if spec and spec.origin else None


def _file(module: str) -> Path | None:
    """File of a module of Gatecast; None for a name that is no module, or not Gatecast's."""
    first, *rest = module.split(".")
    if first != "gatecast":
        return None
    path = Path(gatecast.__file__).parent.joinpath(*rest)
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _imports(module: str, path: Path) -> Iterator[str]:
    """Names that a module imports; a name in a module is given too, and is a module only sometimes."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _device_entries() -> list[EntryPoint]:
    entries = [entry for entry in installed("gatecast").entry_points if entry.group == _DEVICES]
    served = (entry for entry in entries if entry.module.startswith(f"{_DEVICES}."))
    return sorted(served, key=lambda entry: entry.name)


def _metadata_entries() -> Iterator[Entry]:
    """What `importlib.metadata` reads: version, licence, and the devices that are in the image."""
    package = installed("gatecast")
    folder = f"{GATECAST}/gatecast-{package.version}.dist-info"
    lines = [f"[{_DEVICES}]", *(f"{entry.name} = {entry.value}" for entry in _device_entries()), ""]
    yield bytes_entry(f"{folder}/entry_points.txt", "\n".join(lines).encode())
    head = f"Metadata-Version: 2.1\nName: gatecast\nVersion: {package.version}\nLicense: Apache-2.0\n"
    yield bytes_entry(f"{folder}/METADATA", head.encode())
    for file in package.files or ():
        if file.name == "LICENSE":
            yield file_entry(f"{folder}/LICENSE", Path(str(package.locate_file(file))))
