"""The reference device: runs a Program line by line, in text order. See docs/spec/isa.md §5.

Text order is a legal schedule, so `wait` and `signal` need no attention here.
"""

from collections.abc import Callable, Iterable

import numpy as np
from threadpoolctl import ThreadpoolController

from ...errors import DeviceError, RequestError
from ...isa import Instruction, Program, Section, verify
from . import matrix, transfer, vector
from .memory import Memory

_BLAS = ThreadpoolController()  # a product of one block is too small to share among threads


def _nothing(memory: Memory, instruction: Instruction) -> None:
    """`end` and `sync` change no memory."""


INSTRUCTIONS: dict[str, Callable[[Memory, Instruction], None]] = {
    "end": _nothing,
    "sync": _nothing,
    "load": transfer.load,
    "store": transfer.store,
    "weights": transfer.weights,
    "constants": transfer.constants,
    "convolve": matrix.convolve,
    "pool": vector.pool,
    "map": vector.map_values,
}


def execute(memory: Memory, text: Iterable[Instruction]) -> None:
    """Run instructions in text order."""
    with _BLAS.limit(limits=1, user_api="blas"):
        for instruction in text:
            INSTRUCTIONS[instruction.name](memory, instruction)


class ReferenceDevice:
    """NumPy on the host's processor; see `gatecast.devices.Device`."""

    name = "reference"

    def load(self, program: Program) -> "ReferenceProgram":
        """Verify a Program and run its prologue."""
        verify(program)
        return ReferenceProgram(program)


class ReferenceProgram:
    """A Program with its memories; see `gatecast.devices.LoadedProgram`. One run at a time."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._memory: Memory | None = Memory(program)
        execute(self._memory, program.text[: program.prologue])

    def run(self, inputs: bytes | memoryview) -> bytes:
        """Compute one image: section `inputs` to section `outputs`."""
        if self._memory is None:
            raise DeviceError("Program must be loaded to run, not closed", hint="Load it again.")
        if len(inputs) != self._program.inputs_bytes:
            raise RequestError(
                f"Section inputs must have {self._program.inputs_bytes} bytes, not {len(inputs)}"
            )
        sections = self._memory.sections
        sections[Section.INPUTS] = np.frombuffer(inputs, np.uint8)
        sections[Section.OUTPUTS][...] = 0
        execute(self._memory, self._program.body)
        return sections[Section.OUTPUTS].tobytes()

    def close(self) -> None:
        """Free the memories."""
        self._memory = None
