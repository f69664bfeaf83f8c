"""`load`, `store`, `weights` and `constants`: bytes move, nothing is computed. See docs/spec/isa.md §6."""

import numpy as np

from ...isa import Instruction, Section, block_format, external_map, panel_bytes, strided
from ...numerics import BLOCK_SIZE, FORMATS, pack, unpack
from .memory import Memory


def load(memory: Memory, instruction: Instruction) -> None:
    """Copy a map from external memory."""
    external, view = external_map(instruction), instruction.view("out")
    section = memory.sections[Section(instruction.section)]
    place = (view.address, external.shape, (view.row, view.pixel, 1))
    values = np.ascontiguousarray(external.values_of(section))
    if external.encoded:
        strided(memory.mantissas, *place)[...] = unpack(values, FORMATS[external.format])
        strided(memory.exponents, *place)[...] = external.exponents_of(section)
    else:
        strided(memory.vectors, *place)[...] = values.view("<f4")


def store(memory: Memory, instruction: Instruction) -> None:
    """Copy a map to external memory."""
    external, view = external_map(instruction), instruction.view("in")
    section = memory.sections[Section(instruction.section)]
    place = (view.address, external.shape, (view.row, view.pixel, 1))
    if external.encoded:
        mantissas = strided(memory.mantissas, *place)
        external.values_of(section)[...] = pack(mantissas, FORMATS[external.format])
        external.exponents_of(section)[...] = strided(memory.exponents, *place)
    else:
        vectors = np.ascontiguousarray(strided(memory.vectors, *place), "<f4")
        external.values_of(section)[...] = vectors.view(np.uint8)


def weights(memory: Memory, instruction: Instruction) -> None:
    """Copy panels, unpacking their mantissas."""
    fmt, size = block_format(instruction.format), panel_bytes(instruction.format)
    section = memory.sections[Section(instruction.section)]
    panels = section[instruction.offset :][: instruction.count * size].reshape(instruction.count, size)
    codes = panels[:, :-BLOCK_SIZE].reshape(-1, BLOCK_SIZE, fmt.block_bytes)
    addresses = memory.panel_addresses(instruction.address, instruction.count)
    memory.panels[addresses] = unpack(codes, fmt)
    memory.panel_exponents[addresses] = panels[:, -BLOCK_SIZE:]


def constants(memory: Memory, instruction: Instruction) -> None:
    """Copy vectors of 32 float32."""
    count = instruction.count
    section = memory.sections[Section(instruction.section)]
    values = section[instruction.offset :][: 4 * BLOCK_SIZE * count]
    memory.vectors[instruction.address :][:count] = np.frombuffer(values.tobytes(), "<f4").reshape(
        count, BLOCK_SIZE
    )
