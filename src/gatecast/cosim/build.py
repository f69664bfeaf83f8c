"""Simulators: the NPU's Verilog made a shared library by Verilator and the C++ compiler, once.

Both the Verilog and the library are kept in the cache folder under digests of all that they are made of, so a
changed source, size, tool or flag makes a new one, and an old one is never taken for it.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from gatecast.errors import DeviceError
from gatecast.files import cache_folder as users_cache
from gatecast.isa import Architecture

_LOG = logging.getLogger(__name__)

TOOLS = ("verilator", "g++", "make")
HOW_TO_INSTALL = (
    "Install Verilator 5 and a C++ compiler (Debian, Ubuntu: apt install verilator g++ make zlib1g-dev; "
    "macOS: brew install verilator), or run on `--device reference`."
)
_FLAGS = ("-O3", "--noassert", "--x-assign", "fast", "--x-initial", "fast", "-Wno-fatal", "-Wno-lint")
_COMPILER_FLAGS = "-std=c++17 -fPIC -fvisibility=hidden -fno-gnu-unique"
_OPTIMISATION = "OPT_FAST=-O2 OPT_GLOBAL=-O2"  # of code that runs each cycle, and of the run-time library
_SOURCES = ("gatecast.rtl", "gatecast.isa", "gatecast.numerics")  # packages that Verilog is made from

_ZEROS = re.compile(
    r"(?:^ *(?P<memory>\S+)\[0\] = (?P<width>\d+)'h0+;\n)"
    r"(?:^ *(?P=memory)\[(?P<last>\d+)\] = (?P=width)'h0+;\n)+",
    re.MULTILINE,
)

Writer = Callable[[Architecture], str]


def cache_folder() -> Path:
    """Folder for simulators: part of the user's cache."""
    return users_cache() / "rtl"


@dataclass(frozen=True)
class Simulators:
    """Makes simulators, or finds those made before.

    Parameters
    ----------
    folder : Path
        Cache; made if it does not exist.
    """

    folder: Path

    def verilog(self, architecture: Architecture, write: Writer) -> str:
        """Verilog of an Architecture, by `write` unless the cache has it; ``write`` is known by its package.

        Raises
        ------
        DeviceError
            `write` refused the Architecture, or Amaranth is missing.
        """
        path = self.folder / f"{architecture.name}-{_digest(_origin(architecture))}.v"
        if not path.exists():
            _LOG.info("Writing the Verilog of %s", architecture.name)
            self._keep(path, write(architecture).encode())
        return path.read_text(encoding="utf-8")

    def library(self, name: str, verilog: str, *, trace: bool = False) -> Path:
        """Shared library that simulates `verilog`, built unless the cache has it.

        Parameters
        ----------
        name : str
            Of the Architecture, for messages and the file's name.
        trace : bool
            Whether it can write waveforms, which makes it slower.

        Raises
        ------
        DeviceError
            A tool is missing, or refused the Verilog.
        """
        flags = (*_FLAGS, "--trace-fst") if trace else _FLAGS
        tool = _verilator_version()
        key = _digest([verilog, _harness(), tool, *flags, _COMPILER_FLAGS, _OPTIMISATION])
        path = self.folder / f"npu-{key}.so"
        if not path.exists():
            with self._lock(path):
                if not path.exists():  # another process may have made it meanwhile
                    self._build(name, path, verilog, flags)
        return path

    def _build(self, name: str, path: Path, verilog: str, flags: tuple[str, ...]) -> None:
        require_tools()
        start = time.monotonic()
        _LOG.info("Building the simulator of %s with Verilator: once, a minute or so", name)
        with TemporaryDirectory(dir=self.folder, prefix="building-") as folder:
            Path(folder, "npu.v").write_text(shorter(verilog), encoding="utf-8")
            Path(folder, "harness.cc").write_text(_harness(), encoding="utf-8")
            _run(_command(flags), Path(folder))
            os.replace(Path(folder, "made", "Vnpu"), path)
        _LOG.info("Built it in %.0f s", time.monotonic() - start)

    @contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        """Keep other processes from building the same."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _keep(self, path: Path, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(content)
        os.replace(part, path)


def shorter(verilog: str) -> str:
    """Return the same circuit, with a loop where each word of a memory is set to 0 in a line of its own.

    Verilator makes C++ of each such line; most of the compiler's time would go there.
    """

    def loop(lines: re.Match[str]) -> str:
        return f"    for (int i = 0; i <= {lines['last']}; i++) {lines['memory']}[i] = 0;\n"

    return _ZEROS.sub(loop, verilog)


def require_tools() -> None:
    """Refuse to build without the tools: DeviceError says how to install them."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        names, none = ", ".join(TOOLS), ", ".join(missing)
        raise DeviceError(
            f"Device rtl needs {names} to build its simulator, but there is no {none}", hint=HOW_TO_INSTALL
        )


def _harness() -> str:
    return files(__package__).joinpath("harness.cc").read_text(encoding="utf-8")


def _command(flags: tuple[str, ...]) -> list[str]:
    defines = " -DGATECAST_TRACE" if "--trace-fst" in flags else ""
    return [
        "verilator", "--cc", "--exe", "--build", "-j", str(len(os.sched_getaffinity(0))), *flags,
        "--top-module", "npu", "--prefix", "Vnpu", "--Mdir", "made",
        "-CFLAGS", _COMPILER_FLAGS + defines, "-LDFLAGS", "-shared", "-MAKEFLAGS", _OPTIMISATION,
        "npu.v", "harness.cc",
    ]  # fmt: skip


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
        raise DeviceError(
            "Verilator must build the simulator of device rtl, but failed:\n" + "\n".join(lines[:5]),
            hint=HOW_TO_INSTALL,
        )


def _verilator_version() -> str:
    path = shutil.which("verilator")
    if path is None:
        require_tools()
    return _version_of(str(path))


@cache
def _version_of(path: str) -> str:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _origin(architecture: Architecture) -> list[str]:
    """All that Verilog is made from: sizes, our sources, the version of Amaranth."""
    return [json.dumps(architecture.to_dict(), sort_keys=True), *_generator()]


@cache
def _generator() -> list[str]:
    """What writes Verilog, as this process has it: read once."""
    try:
        amaranth = version("amaranth")
    except PackageNotFoundError:
        amaranth = "none"
    sources = [
        f"{package}/{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for package in _SOURCES
        for path in sorted(Path(str(files(package))).rglob("*.py"))
    ]
    return [amaranth, *sources]


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
