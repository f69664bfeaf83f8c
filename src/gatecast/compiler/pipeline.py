"""The compiler as a plain list of passes. Each is one file, and a function of frozen values.

    partition   Graph -> sections of the host and of the device
    lower       device section -> operations on buffers
    fit         operations -> instructions: tile and allocate, in turn until both agree
    schedule    instructions -> the same with waits and signals
    emit        instructions -> Program

Ref: docs/spec/isa.md.
"""

from dataclasses import dataclass

from gatecast.isa import Architecture, Program, verify

from .allocate import Allocated
from .emit import emit
from .fit import fit
from .lower import lower
from .operations import Lowered, check_lowered
from .partition import Section
from .schedule import schedule


@dataclass(frozen=True, eq=False)
class Compiled:
    """A device section as each pass left it."""

    lowered: Lowered
    scheduled: Allocated
    program: Program


def compile_section(section: Section, architecture: Architecture, producer: str) -> Compiled:
    """Run the passes behind `partition` on a device section; the Program is verified."""
    lowered = lower(section, architecture)
    check_lowered(lowered)
    scheduled = schedule(fit(lowered, architecture), architecture)
    program = emit(scheduled, lowered, architecture, producer)
    verify(program)
    return Compiled(lowered, scheduled, program)
