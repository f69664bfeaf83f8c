"""The contract of devices, and how they are found. See docs/spec/isa.md.

A device loads Programs and runs them. It promises the bytes that docs/spec/isa.md §6 and
docs/spec/numerics.md define, whatever it is made of. Devices are installed as entry points of the group
`gatecast.devices`.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

from ..errors import DeviceError
from ..isa import Program

GROUP = "gatecast.devices"

PREFERRED = ("software", "reference")
"""Devices that run everything on the host, the fast one first."""

Progress = Callable[[Program, int], None]
"""Told now and then during a run: which Program, and how many cycles it has taken so far."""


class LoadedProgram(Protocol):
    """A Program on a device, ready to run.

    One run at a time: `run` may be called from any thread, but not while another call is in progress.
    """

    def run(self, inputs: bytes | memoryview) -> bytes:
        """Compute one image: section `inputs` to section `outputs` (docs/spec/isa.md §7).

        Raises
        ------
        RequestError
            `inputs` has not `Program.inputs_bytes` bytes. What is in them is not looked at: they must be what
            `isa.pack_inputs` makes.
        DeviceError
            The device failed, or the Program was closed.
        """
        ...

    def close(self) -> None:
        """Free what the Program holds on the device. Closing twice is allowed."""
        ...


class Device(Protocol):
    """Something that runs Programs."""

    @property
    def name(self) -> str:
        """Name by which it was opened."""
        ...

    def load(self, program: Program) -> LoadedProgram:
        """Verify a Program, run its prologue and get it ready.

        Raises
        ------
        ProgramError
            The Program breaks a rule of the instruction set.
        DeviceError
            The device cannot run this Program.
        """
        ...


def device_names() -> tuple[str, ...]:
    """Names of installed devices."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


@cache
def default_device() -> str:
    """Name of the device where nobody asks for one: `software` if its extension is here, else `reference`."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in PREFERRED:
        try:
            found[name].load()
        except (KeyError, ImportError):
            continue
        return name
    return PREFERRED[-1]


def device_report(loaded: LoadedProgram) -> Mapping[str, Any]:
    """Return what a device counted in the last run, in its own words; empty for a device that counts nothing.

    A loaded Program that has an attribute `report` tells it there: numbers, or mappings of them, by name.
    """
    report: Mapping[str, Any] = getattr(loaded, "report", {})
    return report


def open_device(
    name: str, *, threads: int | None = None, trace: Path | None = None, progress: Progress | None = None
) -> Device:
    """Device by its name.

    Parameters
    ----------
    threads : int, optional
        Threads that share the work of a run, for a device that has any; it chooses if not told.
    trace : Path, optional
        File for a waveform of all that the device does, where it is one that has signals.
    progress : Progress, optional
        Called during runs by a device that counts cycles; others never call it.

    Raises
    ------
    DeviceError
        No such device is installed (those that are, are listed), it cannot be opened here, or it writes no
        waveforms.
    """
    found: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise DeviceError(f"Device must be one of {', '.join(device_names())}, not {name!r}")
    try:
        opener = found[name].load()
    except ImportError as error:
        raise DeviceError(f"Device {name!r} cannot be opened here: {error}") from error
    offered = {"threads": threads, "trace": trace, "progress": progress}
    taken = {key: value for key, value in offered.items() if key in signature(opener).parameters}
    if trace is not None and "trace" not in taken:
        raise DeviceError(f"Device {name!r} writes no waveforms", hint="`--trace` needs `--device rtl`.")
    device: Device = opener(**taken)
    return device
