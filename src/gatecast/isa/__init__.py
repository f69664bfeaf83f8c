"""The instruction set: the waist between compiler and devices. See docs/spec/isa.md."""

from .addressing import ExternalMap, strided
from .architecture import ARCHITECTURES, Architecture, architecture
from .assembly import assemble, listing, parse, show
from .chains import chain, chains
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
from .footprint import (
    Access,
    accesses,
    external_map,
    memory_sizes,
    panel_bytes,
    partial_count,
    sum_steps,
    taps,
    window_blocks,
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
from .ports import Port, pack_port
from .program import NUMERICS_VERSION, Buffer, Program, pack_inputs, unpack_outputs
from .verifier import verify

__all__ = [
    "ARCHITECTURES",
    "FORMAT_NAMES",
    "INSTRUCTION_BYTES",
    "KINDS",
    "NUMERICS_VERSION",
    "UNITS",
    "WORDS",
    "Access",
    "Activation",
    "Architecture",
    "Buffer",
    "ExternalMap",
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
    "accesses",
    "architecture",
    "assemble",
    "block_format",
    "chain",
    "chains",
    "decode",
    "decode_text",
    "encode",
    "encode_text",
    "external_map",
    "format_code",
    "listing",
    "memory_sizes",
    "pack_inputs",
    "pack_port",
    "panel_bytes",
    "parse",
    "partial_count",
    "show",
    "strided",
    "sum_steps",
    "taps",
    "unit_of",
    "units",
    "unpack_outputs",
    "verify",
    "window_blocks",
]
