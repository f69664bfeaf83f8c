"""Weights and constants that a Program carries. See docs/spec/isa.md §8, rule 7."""

import numpy as np
import numpy.typing as npt

from ...numerics import (
    BLOCK_SIZE,
    EXPONENT_BIAS,
    EXPONENT_MAX,
    EXPONENT_MIN,
    FORMATS,
    LARGEST,
    SMALLEST,
    is_canonical,
    unpack,
)
from ..addressing import FLOAT32_BYTES
from ..fields import Section, block_format
from ..footprint import external_map, panel_bytes
from ..instructions import Instruction
from ..program import Program
from .report import broken


def check_contents(program: Program) -> None:
    """Check what is loaded from the section `weights`, each range once."""
    section = np.frombuffer(program.weights, np.uint8)
    seen: set[tuple[object, ...]] = set()
    for number, instruction in enumerate(program.text):
        if not instruction.has("section") or instruction.section != Section.WEIGHTS:
            continue
        key = (instruction.name, *instruction.values[3:])
        if key not in seen:
            seen.add(key)
            _check(program, number, instruction, section)


def _check(program: Program, number: int, instruction: Instruction, section: npt.NDArray[np.uint8]) -> None:
    if instruction.name == "weights":
        if (bad := _bad_panel(instruction, section)) is not None:
            problem = f"must hold |M| <= 2**(N-1) - 1 and |E| <= 48; panel {bad} does not"
            raise broken(program, number, "offset", problem)
        return
    if instruction.name == "constants":
        values = constant_vectors(section, instruction.offset, instruction.count)
    else:
        external = external_map(instruction)
        raw = np.ascontiguousarray(external.values_of(section))
        if external.encoded:
            fmt = FORMATS[external.format]
            exponents = np.ascontiguousarray(external.exponents_of(section))
            if not is_canonical(unpack(raw, fmt), exponents, fmt).all():
                raise broken(program, number, "offset", "must hold blocks that encode makes; one is not")
            return
        values = raw.view("<f4")
    if not within(values, SMALLEST, LARGEST):
        problem = "must hold values of 0 or 2**-80 to 2**64 in magnitude; one is not"
        raise broken(program, number, "offset", problem)


def _bad_panel(instruction: Instruction, section: npt.NDArray[np.uint8]) -> int | None:
    """Number of the first panel out of range."""
    fmt, size = block_format(instruction.format), panel_bytes(instruction.format)
    panels = section[instruction.offset :][: instruction.count * size].reshape(-1, size)
    exponents = panels[:, -BLOCK_SIZE:]
    bad = ((exponents < EXPONENT_MIN + EXPONENT_BIAS) | (exponents > EXPONENT_MAX + EXPONENT_BIAS)).any(
        axis=1
    )
    mantissas = unpack(panels[:, :-BLOCK_SIZE].reshape(-1, BLOCK_SIZE, fmt.block_bytes), fmt)
    bad |= (mantissas.reshape(len(panels), -1) < -fmt.mantissa_max).any(axis=1)
    return int(np.flatnonzero(bad)[0]) if bad.any() else None


def constant_vectors(section: npt.NDArray[np.uint8], offset: int, count: int) -> npt.NDArray[np.float32]:
    """Vectors float32 ``[count, 32]`` of the section `weights`."""
    raw = section[offset:][: count * FLOAT32_BYTES].tobytes()
    return np.frombuffer(raw, "<f4").reshape(count, BLOCK_SIZE)


def within(values: npt.NDArray[np.float32], smallest: float, largest: float) -> bool:
    """Whether each value is 0 or of a magnitude in range; NaN is not."""
    magnitude = np.abs(values)
    good = (magnitude == 0) | ((magnitude >= np.float32(smallest)) & (magnitude <= np.float32(largest)))
    return bool(good.all())
