"""One simulated NPU with its external memory: the Python side of harness.cc."""

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import DeviceError
from gatecast.isa import Architecture

_UNIT_RATE = 1 << 16
BEAT_BYTES = 16
"""Bytes that the memory port moves in a cycle."""

PATIENCE = 20_000
"""Cycles without progress after which a run counts as hung; far beyond any latency of memory."""


class Outcome(IntEnum):
    """Why `Simulator.run` returned; as in harness.cc."""

    RUNNING = 0
    FINISHED = 1
    REFUSED = 2
    STUCK = 3
    BROKEN = 4


_FAULTS = {
    1: "read external memory at byte {}, outside of it",
    2: "wrote external memory at byte {}, where it must not",
    3: "asked for external memory at byte {}, which is no multiple of 16",
    4: "took back a request to external memory at byte {} before it was taken",
    5: "did not acknowledge an access to register {}",
}


@dataclass(frozen=True)
class MemoryTiming:
    """How external memory behaves; results must not depend on it.

    Parameters
    ----------
    latency : int
        Cycles from a read to its answer.
    rate : float
        Beats of 16 bytes that it moves in a cycle, up to 1.
    stalls : float
        Share of cycles in which each of its two sides stands still, at random.
    seed : int
        Of the stalls.
    """

    latency: int = 16
    rate: float = 1.0
    stalls: float = 0.0
    seed: int = 1


def memory_timing(architecture: Architecture) -> MemoryTiming:
    """Memory of the bandwidth that an Architecture names, without stalls."""
    bytes_a_cycle = architecture.memory_gbs * 1e3 / architecture.clock_mhz if architecture.clock_mhz else 0
    return MemoryTiming(rate=min(1.0, bytes_a_cycle / BEAT_BYTES) or 1.0)


class _Settings(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("bytes", "writable", "seed")),
        *((name, ctypes.c_uint32) for name in ("latency", "rate", "stalls")),
    ]


class _Retired(ctypes.Structure):
    _fields_ = [
        ("at", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("unit", "number", "cycles", "unused")),
    ]


@dataclass(frozen=True)
class Retired:
    """An instruction that has written all it writes.

    Parameters
    ----------
    unit : int
        Number of its unit.
    number : int
        Place in the text that was started.
    cycles : int
        From its start, with its tokens taken, to its last write: the RTL's own count.
    at : int
        Cycle of the retirement, counted from reset.
    """

    unit: int
    number: int
    cycles: int
    at: int


class Simulator:
    """A simulated NPU: registers, external memory by a back door, and its clock.

    Parameters
    ----------
    library : Path
        What `Simulators.library` made.
    size : int
        Bytes of external memory.
    writable : int
        First byte that the NPU may write.
    timing : MemoryTiming

    Members
    -------
    memory : uint8 ``[size]``
        External memory, shared with the simulation.
    """

    def __init__(self, library: Path, size: int, writable: int, timing: MemoryTiming) -> None:
        self._functions = _load(library)
        settings = _Settings(
            size, writable, timing.seed, max(1, timing.latency),
            round(timing.rate * _UNIT_RATE), round(timing.stalls * _UNIT_RATE),
        )  # fmt: skip
        self._handle: int | None = self._functions.gatecast_open(ctypes.byref(settings))
        address = self._functions.gatecast_memory(self._handle)
        self.memory: npt.NDArray[np.uint8] = np.ctypeslib.as_array(
            (ctypes.c_uint8 * size).from_address(address)
        )

    @property
    def now(self) -> int:
        """Cycles since reset."""
        return int(self._functions.gatecast_now(self._handle))

    def trace(self, path: Path) -> None:
        """Write a waveform (FST) from now on; the library must have been built for it."""
        if not self._functions.gatecast_trace(self._handle, str(path).encode()):
            raise DeviceError(
                f"Waveform {path} must be a file that can be written", hint="Check the path of --trace."
            )

    def read(self, word: int) -> int:
        """Register by its word index."""
        value = int(self._functions.gatecast_read(self._handle, word))
        self._check()
        return value

    def write(self, word: int, value: int) -> None:
        """Set a register by its word index."""
        self._functions.gatecast_write(self._handle, word, value)
        self._check()

    def run(self, cycles: int, patience: int) -> Outcome:
        """Run for at most `cycles`, or until done, an error, or `patience` cycles without progress.

        Raises
        ------
        DeviceError
            The NPU broke the rules of its memory port, or left the memory that it may touch.
        """
        outcome = Outcome(self._functions.gatecast_run(self._handle, cycles, patience))
        self._check()
        return outcome

    def retired(self) -> tuple[Retired, ...]:
        """Instructions retired since `forget`, in order of time."""
        records = ctypes.POINTER(_Retired)()
        count = self._functions.gatecast_retired(self._handle, ctypes.byref(records))
        return tuple(Retired(r.unit, r.number, r.cycles, r.at) for r in records[:count])

    def forget(self) -> None:
        """Forget what was retired, and a fault."""
        self._functions.gatecast_forget(self._handle)

    def close(self) -> None:
        """End the simulation and finish the waveform; `memory` must not be used any more."""
        if self._handle is not None:
            self.memory = np.zeros(0, np.uint8)
            self._functions.gatecast_close(self._handle)
            self._handle = None

    def _check(self) -> None:
        place = ctypes.c_uint32()
        if fault := self._functions.gatecast_fault(self._handle, ctypes.byref(place)):
            raise DeviceError(
                f"The simulated NPU {_FAULTS[fault].format(place.value)}, at cycle {self.now:,}",
                hint="This is a bug in the NPU; --trace FILE.fst shows what it did.",
            )


def _load(library: Path) -> Any:
    """Functions of the library, with their types."""
    found = ctypes.CDLL(str(library))
    handle, word = ctypes.c_void_p, ctypes.c_uint32
    types: dict[str, tuple[Any, list[Any]]] = {
        "open": (handle, [ctypes.POINTER(_Settings)]),
        "close": (None, [handle]),
        "trace": (ctypes.c_int, [handle, ctypes.c_char_p]),
        "memory": (handle, [handle]),
        "now": (ctypes.c_uint64, [handle]),
        "read": (word, [handle, word]),
        "write": (None, [handle, word, word]),
        "run": (ctypes.c_int, [handle, ctypes.c_uint64, ctypes.c_uint64]),
        "fault": (word, [handle, ctypes.POINTER(word)]),
        "retired": (ctypes.c_uint64, [handle, ctypes.POINTER(ctypes.POINTER(_Retired))]),
        "forget": (None, [handle]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(found, f"gatecast_{name}")
        function.restype, function.argtypes = result, arguments
    return found
