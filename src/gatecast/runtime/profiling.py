"""Where the time of a device goes, layer by layer, and how near to its processor's limits that is."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.artifact import Artifact, ProgramStage
from gatecast.errors import DeviceError
from gatecast.isa import Instruction, Program, accesses, block_format, panel_bytes

from .requests import Tensor
from .session import Session

try:
    from . import native as peaks
except ImportError:
    peaks = None  # type: ignore[assignment]

Times = npt.NDArray[np.float64]

_VECTOR_BYTES = 128


@dataclass(frozen=True)
class Roof:
    """What a processor could do at its best, as measured; None where nothing is known.

    Parameters
    ----------
    instruction_set : str
        Whose multiplications count.
    threads : int
    gmacs_per_s : float, optional
        Products of 8-bit values by nothing but multiplications.
    gbytes_per_s : float
        Reading memory as large as what the Programs touch.
    """

    instruction_set: str
    threads: int
    gmacs_per_s: float | None
    gbytes_per_s: float

    def least_us(self, macs: int, touched: int) -> float | None:
        """Microseconds below which so many products of values from so many bytes are impossible."""
        if self.gmacs_per_s is None:
            return None
        return max(macs / self.gmacs_per_s, touched / self.gbytes_per_s) * 1e-3


@dataclass(frozen=True)
class LayerTime:
    """Time of one layer on the device.

    Parameters
    ----------
    name, kind : str
        Of the layer; what an operation of several layers took is told of its first one.
    macs : int
        Multiplications, without the padding of channels to whole blocks.
    touched : int
        Bytes of blocks, panels and vectors that its instructions read and write, on chip too.
    us : float
        Median of the runs.
    """

    name: str
    kind: str
    macs: int
    touched: int
    us: float

    @property
    def gmacs_per_s(self) -> float:
        """Achieved."""
        return self.macs / self.us * 1e-3 if self.us else 0.0

    def attainable(self, roof: Roof) -> float | None:
        """GMAC/s that the roof allows for what this layer multiplies and touches; None if unknown."""
        least = roof.least_us(self.macs, self.touched)
        return self.macs / least * 1e-3 if least else None

    def share(self, roof: Roof) -> float | None:
        """Part of the attainable speed, by products or bytes, whichever limits it; None if unknown."""
        least = roof.least_us(self.macs, self.touched)
        return least / self.us if least and self.us else None


def layer_times(artifact: Artifact, runs: Sequence[Mapping[str, Times]]) -> tuple[LayerTime, ...]:
    """Sum the times of instructions by layers, in the order of the Programs' text.

    Parameters
    ----------
    runs : sequence of mappings of stage name to nanoseconds ``[instructions]``
    """
    reports = {layer.name: layer for layer in artifact.layers}
    sums: dict[str, Times] = defaultdict(lambda: np.zeros(len(runs)))
    touched: dict[str, int] = defaultdict(int)
    for stage in artifact.stages:
        if not isinstance(stage, ProgramStage):
            continue
        program = stage.program
        times = np.array([run[stage.name] for run in runs])
        for number, instruction in enumerate(program.text):
            if number >= program.prologue and instruction.name not in ("end", "sync"):
                name = program.layer_name(instruction.layer)
                sums[name] += times[:, number]
                touched[name] += touched_bytes(program, instruction)
    return tuple(
        LayerTime(
            name,
            reports[name].kind if name in reports else "",
            reports[name].macs if name in reports else 0,
            touched[name],
            float(np.median(nanoseconds)) * 1e-3,
        )
        for name, nanoseconds in sums.items()
    )


def touched_bytes(program: Program, instruction: Instruction) -> int:
    """Bytes that an instruction reads and writes in on-chip memories; weights count where they are used."""
    if instruction.name in ("weights", "constants"):
        return 0  # a device on a processor has them in memory already
    return sum(
        access.count * _element_bytes(access.memory, access.format)
        for access in accesses(instruction, program.architecture)
    )


def _element_bytes(memory: str, code: int) -> int:
    if memory == "weight":
        return panel_bytes(code)
    return block_format(code).block_bytes + 1 if memory == "activation" else _VECTOR_BYTES


def measure_roof(artifact: Artifact, report: Mapping[str, Any]) -> Roof | None:
    """Measure the limits of the processor for the kernels that a device reports; None if they are unknown."""
    if peaks is None or not {"instruction_set", "threads"} <= set(report):
        return None
    programs = [stage.program for stage in artifact.stages if isinstance(stage, ProgramStage)]
    touched = sum(touched_bytes(p, instruction) for p in programs for instruction in p.body)
    name, threads = str(report["instruction_set"]), int(report["threads"])
    products = peaks.peak_products(name, threads)
    return Roof(name, threads, products or None, peaks.peak_reading(touched, threads))


@dataclass(frozen=True)
class Profile:
    """Times of layers, and the limits of the processor where they are known."""

    layers: tuple[LayerTime, ...]
    roof: Roof | None


def profile(session: Session, inputs: Mapping[str, Tensor], runs: int) -> Profile:
    """Run one image several times and tell the times of its layers.

    Raises
    ------
    RequestError
        As `Session.run`.
    DeviceError
        The device tells no times of instructions, or nothing runs on it.
    """
    if not any(isinstance(stage, ProgramStage) for stage in session.artifact.stages):
        raise DeviceError(
            f"Model {session.name} must run on a device to be measured there, not on the host alone"
        )
    _, (first, *_) = session.run_timed(inputs)
    times = [session.instruction_times(inputs) for _ in range(runs)]
    report = next(iter(first.reports.values()), {})
    return Profile(layer_times(session.artifact, times), measure_roof(session.artifact, report))
