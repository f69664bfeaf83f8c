"""Errors of the verifier: instruction, layer and field."""

from ...errors import ProgramError
from ..program import Program


def broken(program: Program, number: int, field: str, problem: str) -> ProgramError:
    """Error for a field of instruction `number` of a Program; an empty `field` means all of it."""
    instruction = program.text[number]
    layer = program.layer_name(instruction.layer)
    where = f"Instruction {number} ({instruction.name}, {layer})"
    return ProgramError(f"{where}: {field} {problem}" if field else f"{where} {problem}")
