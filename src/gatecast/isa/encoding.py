"""Instructions to 128 bytes and back. See docs/spec/isa.md §6."""

import struct
from collections.abc import Iterable

from ..errors import ProgramError
from .instructions import BY_OPCODE, INSTRUCTION_BYTES, WORDS, Instruction, Kind

_CODE = struct.Struct(f"<{WORDS}I")
_WORD, _FLOAT = struct.Struct("<I"), struct.Struct("<f")


def encode(instruction: Instruction) -> bytes:
    """128 bytes of an instruction."""
    words = [0] * WORDS
    words[0] = instruction.kind.opcode
    for place, value in zip(instruction.kind.layout[1:], instruction.values, strict=True):
        if place.field.kind == "float32":
            words[place.word] = _WORD.unpack(_FLOAT.pack(value))[0]
        else:
            words[place.word] |= (int(value) & (1 << place.field.bits) - 1) << place.bit
    return _CODE.pack(*words)


def decode(code: bytes | memoryview) -> Instruction:
    """Instruction of 128 bytes; ProgramError if it is not exactly what `encode` makes."""
    if len(code) != INSTRUCTION_BYTES:
        raise ProgramError(f"Instruction must have {INSTRUCTION_BYTES} bytes, not {len(code)}")
    words = _CODE.unpack(code)
    kind = BY_OPCODE.get(words[0] & 0xFF)
    if kind is None:
        raise ProgramError(f"Opcode must be one of {', '.join(map(str, BY_OPCODE))}, not {words[0] & 0xFF}")
    instruction = Instruction(kind.name, **_fields(kind, words))
    if encode(instruction) != code:
        raise ProgramError(f"Reserved bits of {kind.name} must be 0, and a zero must be +0.0")
    return instruction


def _fields(kind: Kind, words: tuple[int, ...]) -> dict[str, int | float]:
    values: dict[str, int | float] = {}
    for place in kind.layout[1:]:
        bits = place.field.bits
        value = words[place.word] >> place.bit & (1 << bits) - 1
        if place.field.kind == "signed" and value >> bits - 1:
            value -= 1 << bits
        is_float = place.field.kind == "float32"
        values[place.field.name] = _FLOAT.unpack(_WORD.pack(value))[0] if is_float else value
    return values


def encode_text(instructions: Iterable[Instruction]) -> bytes:
    """128 bytes for each instruction."""
    return b"".join(map(encode, instructions))


def decode_text(text: bytes | memoryview) -> tuple[Instruction, ...]:
    """Instructions of a text section; ProgramError names the number of the first bad one."""
    if len(text) % INSTRUCTION_BYTES:
        raise ProgramError(f"Text must be a multiple of {INSTRUCTION_BYTES} bytes, not {len(text)}")
    found = []
    for start in range(0, len(text), INSTRUCTION_BYTES):
        try:
            found.append(decode(text[start : start + INSTRUCTION_BYTES]))
        except ProgramError as error:
            raise ProgramError(f"Instruction {start // INSTRUCTION_BYTES}: {error}", error.hint) from None
    return tuple(found)
