"""Decoding of instructions, made from the one table `gatecast.isa.KINDS`."""

from functools import cache

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from ..isa import KINDS

BY_NAME = {kind.name: kind for kind in KINDS}
MAX_WORDS = max(kind.words for kind in KINDS)
"""Words of the longest instruction."""

BEAT_WORDS = 4
"""Words that are handed over at once."""


@cache
def layout(name: str) -> data.FlexibleLayout:
    """Fields of a kind of instruction, at their places in its words."""
    kind = BY_NAME[name]
    fields = {}
    for place in kind.layout:
        shape = signed if place.field.kind == "signed" else unsigned
        fields[place.field.name] = data.Field(shape(place.field.bits), 32 * place.word + place.bit)
    return data.FlexibleLayout(32 * kind.words, fields)


def unit_words(unit: str) -> int:
    """Words of the longest instruction of a unit, or of `sync`, which each takes."""
    return max(kind.words for kind in KINDS if kind.unit in (unit, "named"))


def unit_beats(unit: str) -> int:
    """Beats in which a unit is handed its instructions: their words, and in the last word their number."""
    return unit_words(unit) // BEAT_WORDS + 1


def unit_opcodes(unit: str) -> tuple[int, ...]:
    """Opcodes that a unit runs, besides `sync`."""
    return tuple(kind.opcode for kind in KINDS if kind.unit == unit)


def as_kind(words, name: str) -> data.View:
    """The words of an instruction, seen as one of a kind."""
    shape = layout(name)
    return data.View(shape, words[: shape.size])
