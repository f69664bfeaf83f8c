"""Form, formats, sections and limits of one instruction. See docs/spec/isa.md §8, rules 1, 2, 4, 8."""

from collections.abc import Callable, Iterable

from ...errors import ProgramError
from ...numerics import LARGEST, MAX_SUM_BLOCKS, NO_LIMIT, SCALE_LARGEST, SCALE_SMALLEST, SMALLEST
from ..architecture import Architecture
from ..fields import (
    FLOAT32,
    FORMAT_NAMES,
    NONE,
    Activation,
    MapOperation,
    PoolOperation,
    Section,
    block_format,
)
from ..footprint import sum_steps
from ..instructions import Instruction
from ..program import MAX_TEXT, NUMERICS_VERSION, Program
from .report import broken

MAX_WORKSPACE_BYTES = 1 << 28

Problem = tuple[str, str]
"""Field, and what is wrong with it."""


def check_form(program: Program) -> None:
    """Check the Program's frame, then each instruction."""
    _check_frame(program)
    for number, instruction in enumerate(program.text):
        in_prologue = number < program.prologue
        if in_prologue and instruction.name not in ("weights", "constants", "sync", "end"):
            raise broken(program, number, "", "must not be in the prologue, which only loads constants")
        for field, problem in _CHECKS[instruction.name](instruction, program.architecture):
            raise broken(program, number, field, problem)


def _check_frame(program: Program) -> None:
    if not 1 <= len(program.text) <= MAX_TEXT:
        raise ProgramError(
            f"Text of a Program must have 1 to {MAX_TEXT} instructions, not {len(program.text)}"
        )
    ends = [number for number, instruction in enumerate(program.text) if instruction.name == "end"]
    expected = ([program.prologue - 1] if program.prologue else []) + [len(program.text) - 1]
    if ends != expected:
        raise ProgramError(f"Instruction end must close each part, at {expected}, not stand at {ends}")
    if program.numerics_version != NUMERICS_VERSION:
        raise ProgramError(
            f"Program must use version {NUMERICS_VERSION} of the arithmetic, not {program.numerics_version}"
        )
    if program.workspace_bytes > MAX_WORKSPACE_BYTES:
        raise ProgramError(
            f"Workspace of a Program must have at most {MAX_WORKSPACE_BYTES} bytes, "
            f"not {program.workspace_bytes}"
        )


def _end(instruction: Instruction, architecture: Architecture) -> Iterable[Problem]:
    yield from _unused(instruction, "wait", "signal")


def _sync(instruction: Instruction, architecture: Architecture) -> Iterable[Problem]:
    return ()


def _load(instruction: Instruction, architecture: Architecture) -> Iterable[Problem]:
    if instruction.section == Section.OUTPUTS:
        yield "section", "must be weights, workspace or inputs, not outputs"
    yield from _map_format(instruction, "out", architecture)
    yield from _external(instruction, "out")


def _store(instruction: Instruction, architecture: Architecture) -> Iterable[Problem]:
    if instruction.section not in (Section.WORKSPACE, Section.OUTPUTS):
        yield "section", f"must be workspace or outputs, not {Section(instruction.section).name.lower()}"
    yield from _map_format(instruction, "in", architecture)
    yield from _external(instruction, "in")


def _external(instruction: Instruction, view: str) -> Iterable[Problem]:
    if getattr(instruction, f"{view}_format") == FLOAT32:
        yield from _unused(instruction, "exponents", "exponent_pitch")
    for field in ("offset", "row_pitch"):
        if getattr(instruction, field) % 4:
            yield field, f"must be a multiple of 4, not {getattr(instruction, field)}"


def _weights(instruction: Instruction, architecture: Architecture) -> Iterable[Problem]:
    yield from _constant_section(instruction)
    yield from _weight_format(instruction, "format", architecture)


def _constants(instruction: Instruction, architecture: Architecture) -> Iterable[Problem]:
    yield from _constant_section(instruction)


def _constant_section(instruction: Instruction) -> Iterable[Problem]:
    if instruction.section != Section.WEIGHTS:
        yield "section", f"must be weights, not {Section(instruction.section).name.lower()}"
    if instruction.offset % 32:
        yield "offset", f"must be a multiple of 32, not {instruction.offset}"


def _convolve(instruction: Instruction, architecture: Architecture) -> Iterable[Problem]:
    yield from _map_format(instruction, "in", architecture, encoded=True)
    yield from _weight_format(instruction, "weight_format", architecture)
    if instruction.suspend:
        yield from _unused(
            instruction, "out_format", "has_bias", "has_scale", "residual_format", "activation"
        )
        if instruction.last_channels != 32:
            yield "last_channels", "must be 32 where sums are suspended"
    else:
        yield from _map_format(instruction, "out", architecture)
    if instruction.residual_format != NONE:
        yield from _map_format(instruction, "residual", architecture)
    if not (instruction.resume or instruction.suspend):
        yield from _unused(instruction, "partials")
    if not instruction.has_bias:
        yield from _unused(instruction, "bias")
    yield from _affine(instruction)
    yield from _activation(instruction)
    if sum_steps(instruction) > MAX_SUM_BLOCKS:
        yield "in_blocks", f"must make sums of at most {MAX_SUM_BLOCKS} blocks, not {sum_steps(instruction)}"
    if 1 << instruction.split > architecture.max_split:
        yield "split", f"must make at most {architecture.max_split} groups, not {1 << instruction.split}"
    if instruction.interleave > architecture.max_interleave:
        yield "interleave", f"must be at most {architecture.max_interleave}, not {instruction.interleave}"


def _pool(instruction: Instruction, architecture: Architecture) -> Iterable[Problem]:
    average = instruction.operation == PoolOperation.AVERAGE
    yield from _map_format(instruction, "in", architecture, encoded=average)
    yield from _map_format(instruction, "out", architecture)
    if not average:
        yield from _unused(instruction, "factor")
    elif not SCALE_SMALLEST <= instruction.factor <= SCALE_LARGEST:
        yield "factor", f"must lie in 2**-16..2**8, not {instruction.factor}"


def _map(instruction: Instruction, architecture: Architecture) -> Iterable[Problem]:
    yield from _map_format(instruction, "a", architecture)
    if instruction.operation != MapOperation.COPY:
        yield from _map_format(instruction, "b", architecture)
    else:
        yield from _unused(instruction, "b_format")
    yield from _map_format(instruction, "out", architecture)
    yield from _affine(instruction)
    yield from _activation(instruction)
    multiply = instruction.operation == MapOperation.MULTIPLY
    if multiply and FLOAT32 in (instruction.a_format, instruction.b_format):
        yield "operation", "must not be multiply where an operand is float32"
    if instruction.activation >= Activation.LEAKY_RELU:
        if multiply and instruction.has_scale:
            yield "activation", "must be none, ReLU or clip after a multiplication with scale and shift"
        if instruction.operation == MapOperation.COPY and instruction.a_format == FLOAT32:
            yield "activation", "must be none, ReLU or clip where the operand is float32"


_CHECKS: dict[str, Callable[[Instruction, Architecture], Iterable[Problem]]] = {
    "end": _end,
    "sync": _sync,
    "load": _load,
    "store": _store,
    "weights": _weights,
    "constants": _constants,
    "convolve": _convolve,
    "pool": _pool,
    "map": _map,
}


def _unused(instruction: Instruction, *names: str) -> Iterable[Problem]:
    for name in names:
        if getattr(instruction, name):
            yield name, "must be 0 here: it would have no effect"


def _map_format(
    instruction: Instruction, view: str, architecture: Architecture, encoded: bool = False
) -> Iterable[Problem]:
    code, field = getattr(instruction, f"{view}_format"), f"{view}_format"
    if code == NONE or (encoded and code == FLOAT32):
        allowed = "a block format" if encoded else "float32 or a block format"
        yield field, f"must be {allowed}, not {FORMAT_NAMES[code]}"
    elif code != FLOAT32 and block_format(code).bits > architecture.max_activation_bits:
        yield field, f"must have at most {architecture.max_activation_bits} bits, not {FORMAT_NAMES[code]}"


def _weight_format(instruction: Instruction, field: str, architecture: Architecture) -> Iterable[Problem]:
    code = getattr(instruction, field)
    if block_format(code).bits > architecture.max_weight_bits:
        yield field, f"must have at most {architecture.max_weight_bits} bits, not {FORMAT_NAMES[code]}"


def _affine(instruction: Instruction) -> Iterable[Problem]:
    if not instruction.has_scale:
        yield from _unused(instruction, "scale", "shift")


def _activation(instruction: Instruction) -> Iterable[Problem]:
    low, high = instruction.low, instruction.high
    match Activation(instruction.activation):
        case Activation.NONE | Activation.RELU:
            yield from _unused(instruction, "low", "high")
        case Activation.CLIP:
            for field, value in (("low", low), ("high", high)):
                if not (_is_bias(value) or abs(value) == NO_LIMIT):
                    yield field, f"must be 0, 2**-80 to 2**64 in magnitude, or ±2**127 for none, not {value}"
            if low > high:
                yield "low", f"must not be above high, {high}, not {low}"
        case Activation.LEAKY_RELU:
            yield from _unused(instruction, "high")
            if not SCALE_SMALLEST <= low < 1:
                yield "low", f"must be a slope from 2**-16 to below 1, not {low}"
        case _:
            if not SCALE_SMALLEST <= abs(low) <= SCALE_LARGEST:
                yield "low", f"must be an alpha of 2**-16 to 2**8 in magnitude, not {low}"
            if not _is_bias(high):
                yield "high", f"must be 0 or 2**-80 to 2**64 in magnitude, not {high}"


def _is_bias(value: float) -> bool:
    return value == 0 or SMALLEST <= abs(value) <= LARGEST
