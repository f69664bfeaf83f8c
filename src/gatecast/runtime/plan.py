"""Stages of an Artifact made ready on a device, in the order in which they run.

A host stage that only moves values is no model to run: it becomes a copy, and where all that reads it is the
encode of Programs' inputs, a part of that. This needs the extension; without it every host stage runs on ONNX
Runtime, with the same bits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from threading import Lock

from gatecast.artifact import Artifact, HostStage, ProgramStage
from gatecast.devices import LoadedProgram
from gatecast.isa import Port
from gatecast.numerics import BLOCK_SIZE

from .host import ready_host_stage, tables_of
from .movement import Table
from .stages import Movement, ReadyMovementStage, ReadyProgramStage, Stage

try:
    from .native import Gather
except ImportError:
    HAS_GATHER = False
else:
    HAS_GATHER = True


@dataclass(frozen=True, eq=False)
class _Moved:
    """Where the values of a stage's output come from; `size` is that of the source."""

    source: str
    size: int
    table: Table

    def into(self, port: Port) -> Movement:
        table = self.table.reshape(port.shape)
        return Movement(self.source, Gather(table, port.block_channels, self.size))

    def as_it_is(self) -> Movement:
        full, rest = divmod(self.table.size, BLOCK_SIZE)
        counts = (BLOCK_SIZE,) * full + (rest,) * (rest > 0)
        return Movement(self.source, Gather(self.table.reshape(1, 1, -1), counts, self.size))


def ready_stages(
    artifact: Artifact, loaded: Mapping[str, LoadedProgram], lock: Lock, threads: int | None
) -> Iterator[Stage]:
    """Make one after the other ready, without image stages; `loaded` are the Programs by the names of stages.

    Errors are those of `open_session`.
    """
    fused: dict[str, _Moved] = {}
    for stage in artifact.stages:
        if isinstance(stage, HostStage):
            ready = ready_host_stage(stage, threads)
            tables = tables_of(ready) if HAS_GATHER else None
            if tables is None:
                yield ready
                continue
            (source,) = stage.inputs
            size = prod(artifact.shapes[source])
            moved = {n: _Moved(source, size, t) for n, t in zip(stage.outputs, tables, strict=True)}
            if all(_only_encoded(artifact, name, one.table) for name, one in moved.items()):
                fused |= moved
            else:
                yield ReadyMovementStage(stage.name, {name: one.as_it_is() for name, one in moved.items()})
        elif isinstance(stage, ProgramStage):
            yield _ready_program(stage, loaded[stage.name], lock, fused)


def _ready_program(
    stage: ProgramStage, loaded: LoadedProgram, lock: Lock, fused: Mapping[str, _Moved]
) -> ReadyProgramStage:
    ports = {port.name: port for port in stage.program.inputs}
    moved = {name: fused[name].into(port) for name, port in ports.items() if name in fused}
    return ReadyProgramStage(stage, loaded, lock, moved)


def _only_encoded(artifact: Artifact, value: str, table: Table) -> bool:
    """Whether only Programs read a value, each in blocks."""
    if any(port.value == value for port in artifact.interface.outputs):
        return False
    readers = [stage for stage in artifact.stages if value in stage.inputs]
    ports = [
        port
        for stage in readers
        if isinstance(stage, ProgramStage)
        for port in stage.program.inputs
        if port.name == value
    ]
    return len(ports) == len(readers) and all(
        port.map.encoded and prod(port.shape) == table.size for port in ports
    )
