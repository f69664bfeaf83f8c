"""The software device: Programs on the host's processor, as fast as it can, with the bytes of the reference.

The work is done by the C++ extension `gatecast._native`; this module hands it the Program. Where the
extension is missing, importing this fails and says how to get it.
"""

import os
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DeviceError, RequestError
from ..isa import KINDS, Program, encode_text, memory_sizes, verify, window_blocks
from .processors import usable_processors

try:
    from gatecast import _native
except ImportError as error:
    raise ImportError(
        "its extension gatecast._native is not here. For its speed, `pip install` Gatecast again where there "
        "is a C++ compiler (Debian: g++ and python3-dev)"
    ) from error

INSTRUCTION_SET_VARIABLE = "GATECAST_CPU"
"""Environment variable that forces an instruction set of the processor, for tests and comparisons."""


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets that the extension has kernels for and this processor has, best first."""
    return tuple(_native.instruction_sets())


class SoftwareDevice:
    """The host's processor; see `gatecast.devices.Device`.

    Parameters
    ----------
    threads : int, optional
        Threads that share the work of a run; by default as many as this process may use processors. Devices
        of one process with the same number share their threads, and take turns.
    instruction_set : str, optional
        One of `instruction_sets()`; by default what `GATECAST_CPU` says, else the best.

    Raises
    ------
    DeviceError
        This processor has no such instruction set (those that it has are listed), or the number of threads is
        not at least 1.
    """

    name = "software"

    def __init__(self, threads: int | None = None, instruction_set: str | None = None) -> None:
        found = instruction_sets()
        wanted = instruction_set or os.environ.get(INSTRUCTION_SET_VARIABLE) or found[0]
        if wanted not in found:
            source = "Instruction set" if instruction_set else INSTRUCTION_SET_VARIABLE
            raise DeviceError(
                f"{source} must be one that this machine has, {', '.join(found)}, not {wanted!r}",
                hint=f"Unset {INSTRUCTION_SET_VARIABLE} to run on the best of them.",
            )
        if threads is not None and threads < 1:
            raise DeviceError(f"Threads must be at least 1, not {threads}")
        self.instruction_set = wanted
        self.threads = threads or usable_processors()

    def load(self, program: Program) -> "SoftwareProgram":
        """Verify a Program, pack its weights for the kernels and run its prologue."""
        verify(program)
        return SoftwareProgram(program, self.instruction_set, self.threads)


class SoftwareProgram:
    """A Program with its memories; see `gatecast.devices.LoadedProgram`. Concurrent runs take turns.

    Those of one process with the same text and weights share what is packed of them for the kernels.
    """

    def __init__(self, program: Program, instruction_set: str, threads: int) -> None:
        self._inputs_bytes = program.inputs_bytes
        self._instructions = len(program.text)
        text = encode_text(program.text)
        self._native: Any = _native.Program(
            _layout(),
            _bytes(text),
            program.prologue,
            _sizes(program),
            _bytes(program.weights),
            instruction_set,
            threads,
            sha256(b"".join((sha256(text).digest(), sha256(program.weights).digest()))).hexdigest(),
        )

    @property
    def report(self) -> Mapping[str, Any]:
        """What ran: instruction set of the processor, and threads."""
        native = self._open()
        return {"instruction_set": native.instruction_set, "threads": native.threads}

    def run(self, inputs: bytes | memoryview) -> bytes:
        """Compute one image: section `inputs` to section `outputs`."""
        native = self._open()
        result: bytes = native.run(self._checked(inputs))
        return result

    def profile(self, inputs: bytes | memoryview) -> npt.NDArray[np.uint64]:
        """Nanoseconds that each instruction of the text took in one run, ``[instructions]``."""
        native, times = self._open(), np.zeros(self._instructions, np.uint64)
        native.run_profiled(self._checked(inputs), times)
        return times

    @property
    def packed(self) -> tuple[int, int]:
        """Address and size in bytes of the packed weights."""
        native = self._open()
        return native.packed_address, native.packed_bytes

    def close(self) -> None:
        """Free the memories, when no run is in progress any more."""
        self._native = None

    def _open(self) -> Any:
        if self._native is None:
            raise DeviceError("Program must be loaded to run, not closed", hint="Load it again.")
        return self._native

    def _checked(self, inputs: bytes | memoryview) -> npt.NDArray[np.uint8]:
        if len(inputs) != self._inputs_bytes:
            raise RequestError(f"Section inputs must have {self._inputs_bytes} bytes, not {len(inputs)}")
        return _bytes(inputs)


def _bytes(buffer: bytes | memoryview | Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(buffer, np.uint8)


def _layout() -> dict[int, tuple[str, dict[str, tuple[int, int, int, bool]]]]:
    """Where the fields of each kind of instruction lie: the table `isa.KINDS`, for the extension."""
    return {
        kind.opcode: (
            kind.name,
            {
                place.field.name: (place.word, place.bit, place.field.bits, place.field.kind == "signed")
                for place in kind.layout
            },
        )
        for kind in KINDS
    }


def _sizes(program: Program) -> dict[str, int]:
    """Sizes of memories and sections that a Program needs."""
    runs = [window_blocks(i) for i in program.text if i.name == "convolve"]
    return {
        **memory_sizes(program),
        "weight_wrap": program.architecture.weight_panels,
        "zero_blocks": max(runs, default=0),
        "workspace": program.workspace_bytes,
        "inputs": program.inputs_bytes,
        "outputs": program.outputs_bytes,
    }
