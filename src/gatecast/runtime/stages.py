"""Stages of an Artifact made ready to run: each reads and writes named values of one image."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gatecast.artifact import ProgramStage
from gatecast.devices import LoadedProgram, device_report
from gatecast.errors import DeviceError
from gatecast.isa import Port, pack_port, unpack_outputs

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Values = dict[str, Float32]


@dataclass(frozen=True)
class DeviceUse:
    """What a stage asked of a device: seconds, and what the device counted meanwhile."""

    seconds: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)


class Stage(Protocol):
    """One stage, ready to run."""

    @property
    def name(self) -> str:
        """Of the stage in its Artifact."""
        ...

    def run(self, values: Values) -> DeviceUse:
        """Add this stage's outputs to the values of one image."""
        ...


class Rearranged(Protocol):
    """A value that is another one rearranged; see `native.Gather`."""

    def copy(self, source: Float32) -> Float32:
        """Return it."""
        ...

    def encode(self, source: Float32, port: Port, section: UInt8) -> bool:
        """Encode it into the section of a port; False if it must not be encoded."""
        ...


@dataclass(frozen=True)
class Movement:
    """How a value comes from the value `source` of the same image."""

    source: str
    rearranged: Rearranged


@dataclass(frozen=True)
class ReadyMovementStage:
    """A host stage that only moves values; `made` are its outputs."""

    name: str
    made: Mapping[str, Movement]

    def run(self, values: Values) -> DeviceUse:
        """Copy; a device takes no time."""
        values.update({name: made.rearranged.copy(values[made.source]) for name, made in self.made.items()})
        return DeviceUse()


@dataclass(frozen=True)
class ReadyProgramStage:
    """A Program on a device; `lock` keeps to one run at a time on it.

    Inputs in `moved` are rearranged and encoded in one pass, and never exist as float32.
    """

    stage: ProgramStage
    loaded: LoadedProgram
    lock: Lock
    moved: Mapping[str, Movement] = field(default_factory=dict)
    sections: list[UInt8] = field(default_factory=list)  # of inputs, that no run is using

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.stage.name

    def run(self, values: Values) -> DeviceUse:
        """Run the Program; the seconds are the device's alone, without packing and unpacking."""
        program = self.stage.program
        try:
            section = self.sections.pop()  # gaps between its maps are 0, and stay 0
        except IndexError:
            section = np.zeros(program.inputs_bytes, np.uint8)
        for port in program.inputs:
            self._pack(port, section, values)
        with self.lock:
            start = time.perf_counter()
            outputs = self.loaded.run(section.data)
            use = DeviceUse(time.perf_counter() - start, device_report(self.loaded))
        self.sections.append(section)
        values.update(unpack_outputs(program, outputs))
        return use

    def instruction_times(self, values: Values) -> npt.NDArray[np.float64]:
        """Nanoseconds of each instruction of the text in one run, ``[instructions]``.

        DeviceError if the device tells none.
        """
        if not hasattr(self.loaded, "profile"):
            raise DeviceError(
                f"Device must tell the times of instructions for {self.name}, and this one does not",
                hint="Use `--device software`.",
            )
        section = np.zeros(self.stage.program.inputs_bytes, np.uint8)
        for port in self.stage.program.inputs:
            self._pack(port, section, values)
        with self.lock:
            return np.asarray(self.loaded.profile(section.data), np.float64)

    def _pack(self, port: Port, section: UInt8, values: Values) -> None:
        made = self.moved.get(port.name)
        if made is None:
            pack_port(port, section, values[port.name].reshape(port.shape))
        elif not made.rearranged.encode(values[made.source], port, section):
            pack_port(port, section, made.rearranged.copy(values[made.source]))  # which says what is wrong
