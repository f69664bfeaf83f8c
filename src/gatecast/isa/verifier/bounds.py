"""First and last address of everything an instruction touches. See docs/spec/isa.md §8, rule 3."""

import numpy as np

from ..addressing import FLOAT32_BYTES
from ..fields import Section
from ..footprint import (
    ACTIVATION,
    VECTOR,
    WEIGHT,
    accesses,
    external_map,
    panel_bytes,
    sum_steps,
    window_blocks,
)
from ..instructions import Instruction
from ..ports import MAX_BLOCKS
from ..program import Program
from .report import broken

_UNITS = {ACTIVATION: "blocks", WEIGHT: "panels", VECTOR: "vectors"}


def check_bounds(program: Program) -> None:
    """Check on-chip views and ranges, windows, and ranges of external memory."""
    for number, instruction in enumerate(program.text):
        _check_sizes(program, number, instruction)
        _check_window(program, number, instruction)
        _check_chip(program, number, instruction)
        _check_external(program, number, instruction)


def section_sizes(program: Program) -> dict[Section, int]:
    """Bytes of each section of external memory."""
    return {
        Section.WEIGHTS: len(program.weights),
        Section.WORKSPACE: program.workspace_bytes,
        Section.INPUTS: program.inputs_bytes,
        Section.OUTPUTS: program.outputs_bytes,
    }


def _check_sizes(program: Program, number: int, instruction: Instruction) -> None:
    """Refuse shapes that no memory can hold, so that all that follows is cheap."""
    for view in ("in", "out"):
        if instruction.has(f"{view}_blocks") and instruction.has(f"{view}_rows"):
            parts = [getattr(instruction, f"{view}_{part}") for part in ("rows", "columns", "blocks")]
            if int(np.prod(parts, dtype=object)) > MAX_BLOCKS:
                raise broken(
                    program, number, f"{view}_rows", f"must make a map of at most {MAX_BLOCKS} blocks"
                )
    if instruction.has("stride_y"):
        spans = [
            (getattr(instruction, f"out_{part}") - 1) * getattr(instruction, f"stride_{axis}")
            + (getattr(instruction, f"kernel_{part}") - 1) * getattr(instruction, f"dilation_{axis}", 1)
            + 1
            for part, axis in (("rows", "y"), ("columns", "x"))
        ]
        if spans[0] * spans[1] * window_blocks(instruction) > MAX_BLOCKS:
            raise broken(program, number, "stride_y", f"must make a window of at most {MAX_BLOCKS} blocks")
    if instruction.name in ("weights", "convolve"):
        _check_panels(program, number, instruction)


def _check_panels(program: Program, number: int, instruction: Instruction) -> None:
    """Weight memory wraps: a range may pass its end, but begins inside and meets itself nowhere."""
    if instruction.name == "weights":
        field, count = "address", instruction.count
    else:
        field, count = "weights", sum_steps(instruction) * instruction.out_blocks
    size = program.architecture.weight_panels
    if count > size:
        raise broken(program, number, field, f"must begin a range of at most {size} panels, not {count}")
    if getattr(instruction, field) >= size:
        problem = f"must be one of the {size} panels of weight memory, not {getattr(instruction, field)}"
        raise broken(program, number, field, problem)


def _check_window(program: Program, number: int, instruction: Instruction) -> None:
    if instruction.name != "pool":
        return
    for axis, part in (("y", "rows"), ("x", "columns")):
        first = np.arange(getattr(instruction, f"out_{part}")) * getattr(instruction, f"stride_{axis}")
        first += getattr(instruction, f"in_{axis}")
        last = first + getattr(instruction, f"kernel_{part}") - 1
        outside = (last < 0) | (first >= getattr(instruction, f"in_{part}"))
        if outside.any():
            where = int(np.flatnonzero(outside)[0])
            problem = f"must put a tap of each window inside the map; output {part[:-1]} {where} has none"
            raise broken(program, number, f"in_{axis}", problem)


def _check_chip(program: Program, number: int, instruction: Instruction) -> None:
    architecture = program.architecture
    sizes = {
        ACTIVATION: architecture.activation_blocks,
        WEIGHT: architecture.weight_panels,
        VECTOR: architecture.vectors,
    }
    for access in accesses(instruction, architecture):
        if access.last >= sizes[access.memory]:
            problem = (
                f"must stay within the {sizes[access.memory]} {_UNITS[access.memory]} of "
                f"{access.memory} memory, not reach {access.last}"
            )
            raise broken(program, number, access.field, problem)


def _check_external(program: Program, number: int, instruction: Instruction) -> None:
    if not instruction.has("section"):
        return
    if instruction.name in ("load", "store"):
        end = external_map(instruction).end
    elif instruction.name == "weights":
        end = instruction.offset + instruction.count * panel_bytes(instruction.format)
    else:
        end = instruction.offset + instruction.count * FLOAT32_BYTES
    section = Section(instruction.section)
    size = section_sizes(program)[section]
    if end > size:
        problem = f"must stay within the {size} bytes of section {section.name.lower()}, not reach {end - 1}"
        raise broken(program, number, "offset", problem)
