"""What fits on a compute: one replica on each node, and its memory."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from gatecast.errors import CapacityError

MIB = 1 << 20
BASE_MEMORY = 150 * MIB
"""Bytes of a server without a model: Python, its libraries, the buffers of a few requests."""

MEMORY_PER_BYTE = 3
"""Bytes that a server needs for each byte of the artifact: as read, as loaded, and for activations."""


@dataclass(frozen=True)
class Asked:
    """What a deploy or an update asks for.

    `replaced` is the memory of a replica that runs until a new one has taken its place; 0 if none is.
    """

    service: str
    compute: str
    replicas: int
    memory: int
    replaced: int = 0


def replica_memory(artifact_bytes: int) -> int:
    """Return an upper estimate of the bytes that a replica needs.

    Measured with ResNet-50 in bfp8 (25 MiB): 147 MiB after its start, 196 MiB after eight pictures at once.
    """
    return BASE_MEMORY + MEMORY_PER_BYTE * artifact_bytes


def machine_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process may use: the machine's, or its control group's if less."""
    limits = [_total(root / "proc/meminfo")]
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, name = line.split(":", 2)
        if not controllers:
            limits += _group_limits(root / "sys/fs/cgroup", name, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _group_limits(root / "sys/fs/cgroup/memory", name, "memory.limit_in_bytes")
    return min(limits)


def check(database: sqlite3.Connection, asked: Asked, machine: int) -> None:
    """Refuse what does not fit, within the transaction that adds it; CapacityError shows why as a table."""
    nodes = database.execute("SELECT nodes FROM computes WHERE name = ?", (asked.compute,)).fetchone()[0]
    others = database.execute(
        "SELECT name, compute, replicas, memory FROM services WHERE name != ? ORDER BY name", (asked.service,)
    ).fetchall()
    here = [row for row in others if row["compute"] == asked.compute]
    used = sum(row["replicas"] for row in here)
    of_node = machine // nodes
    table = _table(asked, here, nodes, machine)
    if used + asked.replicas > nodes:
        raise CapacityError(
            f"Service {asked.service} asks for {_counted(asked.replicas, 'node')}, "
            f"but compute {asked.compute} has {max(nodes - used, 0)} free of {nodes}\n{table}"
        )
    if asked.memory + asked.replaced > of_node:
        during = f", with {_mib(asked.replaced)} of the one that it replaces" if asked.replaced else ""
        raise CapacityError(
            f"Service {asked.service} needs {_mib(asked.memory)} of memory for a replica{during}, "
            f"but a node of compute {asked.compute} has {_mib(of_node)}\n{table}",
            hint="Delete the service and deploy it again."
            if asked.replaced and asked.memory <= of_node
            else "Use a compute with fewer nodes, or a machine with more memory.",
        )
    taken = sum(row["replicas"] * row["memory"] for row in others)
    wanted = asked.replicas * asked.memory + asked.replaced
    if taken + wanted > machine:
        raise CapacityError(
            f"Service {asked.service} needs {_mib(wanted)} of memory, "
            f"but of the machine's {_mib(machine)} services on all computes need {_mib(taken)}\n{table}",
            hint="Delete a service, or ask for fewer replicas.",
        )


def _table(asked: Asked, here: list[sqlite3.Row], nodes: int, machine: int) -> str:
    used = sum(row["replicas"] for row in here)
    rows = [
        ("", "nodes", "memory of each"),
        (f"compute {asked.compute}", str(nodes), _mib(machine // nodes)),
        *((f"used by {row['name']}", str(row["replicas"]), _mib(row["memory"])) for row in here),
        ("free", str(max(nodes - used, 0)), _mib(machine // nodes)),
        (f"asked for by {asked.service}", str(asked.replicas), _mib(asked.memory)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}".rstrip() for row in rows
    )


def _mib(number: int) -> str:
    return f"{-(-number // MIB)} MiB"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _total(meminfo: Path) -> int:
    """Bytes of the machine; without such a file (not Linux) no limit is known."""
    for line in _lines(meminfo):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def _group_limits(mount: Path, name: str, file: str) -> list[int]:
    """Limits of a control group and those it is in; a container sees its own as the mount itself."""
    group = mount / name.lstrip("/")
    folders = [group, *group.parents] if name.strip("/") else [mount]
    limits = []
    for folder in [folder for folder in folders if folder == mount or mount in folder.parents]:
        limits += [int(text) for text in _lines(folder / file) if text.isdecimal()]
    return limits


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
