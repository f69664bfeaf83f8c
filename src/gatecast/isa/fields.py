"""Fields of instructions, the names behind their numbers, and the groups that instructions share.

See docs/spec/isa.md §6. Numbers, not names, are what a device decodes; names are for listings.
"""

from dataclasses import dataclass
from enum import IntEnum

from ..numerics import FORMATS, Format

UNITS = ("load", "weights", "matrix", "vector", "store")
"""Units in the order of their bits in the masks `wait` and `signal`."""

FORMAT_NAMES = ("none", "float32", "bfp4", "bfp5", "bfp6", "bfp7", "bfp8")
"""Formats of views in the order of their numbers."""

NONE, FLOAT32 = 0, 1


class Section(IntEnum):
    """Sections of external memory."""

    WEIGHTS = 0
    WORKSPACE = 1
    INPUTS = 2
    OUTPUTS = 3


class Activation(IntEnum):
    """Activations of `convolve` (the first three) and `map`."""

    NONE = 0
    RELU = 1
    CLIP = 2
    LEAKY_RELU = 3
    HARD_SIGMOID = 4
    HARD_SWISH = 5


class PoolOperation(IntEnum):
    """Operations of `pool`."""

    MAXIMUM = 0
    AVERAGE = 1


class MapOperation(IntEnum):
    """Operations of `map`."""

    COPY = 0
    ADD = 1
    SUBTRACT = 2
    MULTIPLY = 3
    MAXIMUM = 4
    MINIMUM = 5


@dataclass(frozen=True)
class Field:
    """One field of an instruction.

    Parameters
    ----------
    name : str
        Unique within the instruction.
    bits : int
        Width; a float32 has 32.
    doc : str
        One sentence for the reference page.
    unit : str
        Unit of the number (`block`, `byte`, …), or the table that names it (`format`, `unit`, `units`).
    kind : str
        `unsigned`, `signed` (two's complement) or `float32`.
    default : int or float
        Value of a field that is not given.
    minimum, maximum : int, optional
        Range, if narrower than the bits allow.
    """

    name: str
    bits: int
    doc: str
    unit: str = ""
    kind: str = "unsigned"
    default: int | float = 0
    minimum: int | None = None
    maximum: int | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest value of an integer field."""
        low, high = 0, (1 << self.bits) - 1
        if self.kind == "signed":
            low, high = -(1 << self.bits - 1), (1 << self.bits - 1) - 1
        return (
            low if self.minimum is None else self.minimum,
            high if self.maximum is None else self.maximum,
        )


def format_code(name: str) -> int:
    """Number of a format: 0 none, 1 float32, 2…6 bfp4…bfp8."""
    return FORMAT_NAMES.index(name)


def block_format(code: int) -> Format:
    """Block format of a number 2…6."""
    return FORMATS[FORMAT_NAMES[code]]


def view(name: str, doc: str) -> tuple[Field, ...]:
    """Where a tile lies: in activation memory, or in vector memory if its format is float32."""
    return (
        Field(f"{name}_address", 24, f"{doc}: address of row 0, column 0, block 0", "block"),
        Field(f"{name}_format", 4, f"{doc}: format; none where there is no such view", "format", maximum=6),
        Field(f"{name}_row", 24, f"{doc}: from a row to the next; 0 repeats the row", "block"),
        Field(f"{name}_pixel", 16, f"{doc}: from a column to the next; 0 repeats the column", "block"),
    )


def extent(name: str) -> tuple[Field, ...]:
    """How much of a view an instruction reads or writes."""
    return (
        Field(f"{name}_rows", 16, "Rows of the tile", "pixel", minimum=1),
        Field(f"{name}_columns", 16, "Columns of the tile", "pixel", minimum=1),
        Field(f"{name}_blocks", 16, "Blocks of 32 channels of the tile", "block", minimum=1),
    )


def _at_least_one(name: str, doc: str) -> Field:
    return Field(name, 8, doc, "pixel", default=1, minimum=1)


HEAD = (
    Field("opcode", 8, "Kind of the instruction"),
    Field("wait", 5, "Units of which one signal each is taken first; the own unit means drain", "units"),
    Field(
        "signal", 5, "Units that are told when this and all earlier ones of the unit have written", "units"
    ),
    Field("layer", 14, "Layer that the instruction belongs to, for listings and errors"),
)
SECTION = Field("section", 3, "Section of external memory", maximum=3)
EXTERNAL = (
    SECTION,
    Field("offset", 32, "Mantissas, or float32 values, of row 0, column 0, block 0", "byte"),
    Field("row_pitch", 32, "From a row of mantissas or values to the next", "byte"),
    Field("exponents", 32, "Exponents of row 0, column 0, block 0; 0 for float32", "byte"),
    Field("exponent_pitch", 32, "From a row of exponents to the next; 0 for float32", "byte"),
    Field("pixel_pitch", 16, "From a column to the next", "block"),
)
WINDOW = (
    Field("in_rows", 16, "Rows that are stored; taps outside contribute nothing", "pixel", minimum=1),
    Field("in_columns", 16, "Columns that are stored", "pixel", minimum=1),
    Field("in_y", 16, "Stored row of the first tap of output row 0", "pixel", "signed"),
    Field("in_x", 16, "Stored column of the first tap of output column 0", "pixel", "signed"),
    _at_least_one("kernel_rows", "Rows of the kernel"),
    _at_least_one("kernel_columns", "Columns of the kernel"),
    _at_least_one("stride_y", "Stored rows from an output row to the next"),
    _at_least_one("stride_x", "Stored columns from an output column to the next"),
)
AFFINE = (
    Field("has_scale", 1, "1: multiply by scale, then add shift"),
    Field("scale", 24, "First vector of the scale, one for each output block", "vector"),
    Field("shift", 24, "First vector of the shift, one for each output block", "vector"),
)


def limits(activations: int) -> tuple[Field, ...]:
    """Activation and its two parameters; `activations` is the largest number allowed."""
    return (
        Field("activation", 3, f"Activation, 0 to {activations} (§6, map)", maximum=activations),
        Field("low", 32, "Lower limit, slope, or alpha", kind="float32"),
        Field("high", 32, "Upper limit, or beta", kind="float32"),
    )


LAST_CHANNELS = Field(
    "last_channels",
    6,
    "Channels of the last block; further lanes are +0.0",
    default=32,
    minimum=1,
    maximum=32,
)
