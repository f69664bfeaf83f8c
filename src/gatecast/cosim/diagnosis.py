"""What to say of a run that did not end: the reason of an error, or who waits for whom."""

from collections.abc import Sequence

from gatecast.errors import DeviceError
from gatecast.isa import UNITS, Instruction, Program, show
from gatecast.rtl import ERRORS, UNIT_STATES

from .registers import Registers
from .simulator import PATIENCE

_HINT = "This is a bug in the compiler or the NPU; --trace FILE.fst shows what the NPU did."
_WAITED_FOR = 8  # lowest bit of the units that a unit still waits for, in its state register


def refusal(registers: Registers, program: Program, text: Sequence[Instruction]) -> DeviceError:
    """Error for a set bit `error` of the status register."""
    reason, number = registers.read("error"), registers.read("error_number")
    return DeviceError(
        f"The NPU stopped with error {reason}, {ERRORS.get(reason, 'unknown')}: "
        f"{_instruction(program, text, number)}",
        hint="Compile the network again for the NPU's own architecture.",
    )


def standstill(registers: Registers, program: Program, text: Sequence[Instruction]) -> DeviceError:
    """Error for a run that makes no progress; names the units that are not idle and their instructions."""
    read, lines = registers.read, []
    for unit in UNITS:
        state = read(f"{unit}_state")
        name = UNIT_STATES[state & 3] if state & 3 < len(UNIT_STATES) else "unknown"
        if name == "idle":
            continue
        waited = [other for bit, other in enumerate(UNITS) if state >> _WAITED_FOR + bit & 1]
        if name == "waiting":
            doing = f"waits for {', '.join(waited) or 'the epilogue'}"
        else:
            doing = f"is {name}"
        lines.append(f"{unit} {doing}: {_instruction(program, text, read(f'{unit}_number'))}")
    return DeviceError(
        "\n".join(
            [
                f"The NPU hangs: no unit made progress in {PATIENCE:,} cycles "
                f"({read('instructions')} of {len(text) - 1} instructions have ended)",
                *(lines or ["all units are idle"]),
            ]
        ),
        hint=_HINT,
    )


def _instruction(program: Program, text: Sequence[Instruction], number: int) -> str:
    if number >= len(text):
        return f"instruction {number}, of {len(text)}"
    found = text[number]
    return f"instruction {number}, layer {program.layer_name(found.layer)}: {show(found)}"
