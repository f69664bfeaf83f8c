"""The contract of devices, and how they are found. See docs/spec/isa.md.

A device loads Programs and runs them. It promises the bytes that docs/spec/isa.md §6 and
docs/spec/numerics.md define, whatever it is made of. Devices are installed as entry points of the group
`gatecast.devices`.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from ..errors import DeviceError
from ..isa import Program

GROUP = "gatecast.devices"


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


def open_device(name: str) -> Device:
    """Device by its name; DeviceError lists those that are installed."""
    found: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise DeviceError(f"Device must be one of {', '.join(device_names())}, not {name!r}")
    try:
        opener = found[name].load()
    except ImportError as error:
        raise DeviceError(f"Device {name!r} cannot be opened here: {error}") from error
    device: Device = opener()
    return device
