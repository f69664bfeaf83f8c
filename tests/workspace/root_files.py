"""Root file systems in tars, as small as they can be: what tests give as a base."""

import io
import platform
import struct
import tarfile

from gatecast.workspace.distributions import PYTHON
from gatecast.workspace.own_files import native_extension
from gatecast.workspace.root_tar import SYMBOL

MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243, "ppc64le": 21}


def elf(machine=None):
    """The head of a program for a machine, by default this one."""
    number = MACHINES.get(platform.machine(), 0) if machine is None else machine
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, number)


def symbols():
    """A C library that has all that Gatecast's extension needs."""
    return b"\0" + b"\0".join(sorted(set(SYMBOL.findall(native_extension().read_bytes())))) + b"\0"


def files(version=PYTHON, program=None):
    """Paths and contents of a root file system with Python and tini."""
    return {
        f"usr/bin/python{version}": elf() if program is None else program,
        "usr/bin/tini": elf(),
        "lib/x86_64-linux-gnu/libc.so.6": symbols(),
    }


def member(name, kind=tarfile.REGTYPE, data=b"", **fields):
    """A member of a tar and its content."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def write_tar(path, members=(), mode="w", contents=None):
    """Write a tar of files, by default those of `files`, and more members."""
    with tarfile.open(path, mode) as tar:
        for name, data in (files() if contents is None else contents).items():
            info, _ = member(name, data=data, mode=0o755)
            tar.addfile(info, io.BytesIO(data))
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path
