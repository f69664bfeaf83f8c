"""The instruction set: the waist between compiler and devices. See docs/spec/isa.md."""

from .architecture import ARCHITECTURES, Architecture, architecture
from .assembly import assemble, listing, parse, show
from .encoding import decode, decode_text, encode, encode_text
from .fields import (
    FORMAT_NAMES,
    UNITS,
    Activation,
    Field,
    MapOperation,
    PoolOperation,
    Section,
    block_format,
    format_code,
)
from .instructions import (
    INSTRUCTION_BYTES,
    KINDS,
    WORDS,
    Instruction,
    Kind,
    Placement,
    View,
    unit_of,
    units,
)
from .ports import Port
from .program import NUMERICS_VERSION, Buffer, Program, pack_inputs, unpack_outputs

__all__ = [
    "ARCHITECTURES",
    "FORMAT_NAMES",
    "INSTRUCTION_BYTES",
    "KINDS",
    "NUMERICS_VERSION",
    "UNITS",
    "WORDS",
    "Activation",
    "Architecture",
    "Buffer",
    "Field",
    "Instruction",
    "Kind",
    "MapOperation",
    "Placement",
    "PoolOperation",
    "Port",
    "Program",
    "Section",
    "View",
    "architecture",
    "assemble",
    "block_format",
    "decode",
    "decode_text",
    "encode",
    "encode_text",
    "format_code",
    "listing",
    "pack_inputs",
    "parse",
    "show",
    "unit_of",
    "units",
    "unpack_outputs",
]
