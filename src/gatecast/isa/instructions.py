"""The instruction table, and instructions as values. See docs/spec/isa.md §6 and §10.

The table is the only place that lists opcodes and fields. Layout, encoder, decoder, assembly, verifier ranges
and the field tables of the reference page are derived from it.
"""

import operator
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import ProgramError
from .fields import (
    AFFINE,
    EXTERNAL,
    FORMAT_NAMES,
    HEAD,
    LAST_CHANNELS,
    NONE,
    SECTION,
    UNITS,
    WINDOW,
    Field,
    extent,
    limits,
    view,
)

WORDS = 32
"""Little-endian 32-bit words of an instruction."""

INSTRUCTION_BYTES = 4 * WORDS


@dataclass(frozen=True)
class Placement:
    """A field's word and its lowest bit there."""

    field: Field
    word: int
    bit: int


@dataclass(frozen=True)
class Kind:
    """One line of the table: a kind of instruction.

    Parameters
    ----------
    name : str
        Name in listings.
    opcode : int
        Number in the lowest byte of the first word.
    unit : str
        Unit that runs it; `all` for `end`, `named` for `sync`.
    doc : str
        One sentence for the reference page.
    own : tuple of Field
        Fields after the head, in the order of their places.
    """

    name: str
    opcode: int
    unit: str
    doc: str
    own: tuple[Field, ...] = ()

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All fields but the opcode."""
        return (*HEAD[1:], *self.own)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each field in `fields`."""
        return {field.name: i for i, field in enumerate(self.fields)}

    @cached_property
    def views(self) -> tuple[str, ...]:
        """Names of the views, such as `in`, `out`, `residual`."""
        return tuple(f.name.removesuffix("_address") for f in self.own if f.name.endswith("_address"))

    @cached_property
    def layout(self) -> tuple[Placement, ...]:
        """Placed fields, the opcode first: in order, a field that would cross a word starts the next one."""
        placed, word, bit = [], 0, 0
        for field in (*HEAD, *self.own):
            if bit + field.bits > 32:
                word, bit = word + 1, 0
            placed.append(Placement(field, word, bit))
            bit += field.bits
        return tuple(placed)

    @cached_property
    def words(self) -> int:
        """Words that hold fields; the rest are 0."""
        return self.layout[-1].word + 1


_OUT = "Results"
_IN = "Feature map that is read"

KINDS: tuple[Kind, ...] = (
    Kind("end", 0, "all", "Wait for all units; closes the prologue and the body."),
    Kind(
        "sync",
        1,
        "named",
        "Wait and signal, nothing else.",
        (Field("unit", 3, "Unit that does it", "unit", maximum=4),),
    ),
    Kind(
        "load",
        2,
        "load",
        "Copy a feature map from external memory.",
        (*EXTERNAL, *view("out", _OUT), *extent("out")),
    ),
    Kind(
        "store",
        3,
        "store",
        "Copy a feature map to external memory.",
        (*EXTERNAL, *view("in", _IN), *extent("in")),
    ),
    Kind(
        "weights",
        4,
        "weights",
        "Copy panels to weight memory, unpacking their mantissas.",
        (
            SECTION,
            Field("format", 4, "Format of the panels", "format", minimum=2, maximum=6),
            Field("offset", 32, "First panel in the section", "byte"),
            Field("address", 24, "First panel in weight memory, which wraps", "panel"),
            Field("count", 24, "Panels", "panel", minimum=1),
        ),
    ),
    Kind(
        "constants",
        5,
        "weights",
        "Copy vectors of 32 float32 to vector memory.",
        (
            SECTION,
            Field("offset", 32, "First vector in the section", "byte"),
            Field("address", 24, "First vector in vector memory", "vector"),
            Field("count", 24, "Vectors", "vector", minimum=1),
        ),
    ),
    Kind(
        "convolve",
        6,
        "matrix",
        "A tile of a convolution or matrix multiply, with its epilogue.",
        (
            *view("in", _IN),
            *WINDOW,
            Field("dilation_y", 8, "Stored rows from a tap to the next", "pixel", default=1, minimum=1),
            Field("dilation_x", 8, "Stored columns from a tap to the next", "pixel", default=1, minimum=1),
            Field("in_blocks", 16, "Input blocks of one sum, for each tap", "block", minimum=1),
            Field("group_blocks", 16, "Output blocks that share a slice of `in_blocks`; 0: all do", "block"),
            Field("weights", 24, "First panel, in the order output block, tap, input block", "panel"),
            Field("weight_format", 4, "Format of the panels", "format", minimum=2, maximum=6),
            *view("out", _OUT),
            *extent("out"),
            LAST_CHANNELS,
            Field("resume", 1, "1: begin with the partial sums, not with +0.0"),
            Field("suspend", 1, "1: write the sums to `partials`; no epilogue, `out` is none"),
            Field("partials", 24, "First vector of partial sums, in the order row, column, block", "vector"),
            Field("has_bias", 1, "1: add bias"),
            Field("bias", 24, "First vector of the bias, one for each output block", "vector"),
            *AFFINE,
            *view("residual", "Map that is added before the activation"),
            *limits(2),
            Field("split", 3, "Schedule: log2 of the groups that the lanes form", "log2"),
            Field("interleave", 6, "Schedule: pixels in flight in a lane; 0: the device's choice", "pixel"),
        ),
    ),
    Kind(
        "pool",
        7,
        "vector",
        "Maximum or average over a window.",
        (
            Field("operation", 2, "0 maximum, 1 average", maximum=1),
            *view("in", _IN),
            *WINDOW,
            *view("out", _OUT),
            *extent("out"),
            Field("factor", 32, "Average: what the sum is multiplied by", kind="float32"),
        ),
    ),
    Kind(
        "map",
        8,
        "vector",
        "An operation on one or two maps, value by value.",
        (
            Field("operation", 3, "0 copy, 1 add, 2 subtract, 3 multiply, 4 maximum, 5 minimum", maximum=5),
            *view("a", "First operand"),
            Field("repeat_y", 8, "Output rows for each row of `a`", "pixel", default=1, minimum=1),
            Field("repeat_x", 8, "Output columns for each column of `a`", "pixel", default=1, minimum=1),
            *view("b", "Second operand; none for copy"),
            *AFFINE,
            *limits(5),
            *view("out", _OUT),
            *extent("out"),
            LAST_CHANNELS,
        ),
    ),
)
BY_NAME = {kind.name: kind for kind in KINDS}
BY_OPCODE = {kind.opcode: kind for kind in KINDS}


@dataclass(frozen=True)
class View:
    """Where a tile lies: block (y, x, c) at `address + y*row + x*pixel + c` (docs/spec/isa.md §3)."""

    address: int
    format: str
    row: int
    pixel: int

    def fields(self, name: str) -> dict[str, int | str]:
        """Keyword arguments of `Instruction` for the view `name`."""
        return {
            f"{name}_address": self.address,
            f"{name}_format": self.format,
            f"{name}_row": self.row,
            f"{name}_pixel": self.pixel,
        }


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Instruction:
    """One instruction; its fields are attributes.

    Formats may be given by name or number, unit masks as names or a number. Floats are rounded to float32.
    Fields not given have their defaults.

    Raises
    ------
    ProgramError
        If the kind or a field is not known, or a value is out of range.

    Examples
    --------
    >>> Instruction("weights", format="bfp8", count=14, signal=("matrix",)).count
    14
    """

    kind: Kind
    values: tuple[int | float, ...]

    def __init__(self, name: str, /, **given: object) -> None:
        kind = BY_NAME.get(name)
        if kind is None:
            raise ProgramError(f"Instruction must be one of {', '.join(BY_NAME)}, not {name!r}")
        values = []
        for field in kind.fields:
            if field.name in given:
                values.append(_checked(name, field, given.pop(field.name)))
            else:
                values.append(
                    field.default if field.minimum is None else _checked(name, field, field.default)
                )
        if given:
            raise ProgramError(f"Instruction {name} has no field {', '.join(sorted(given))}")
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "values", tuple(values))
        for stem in kind.views:
            _check_absent(self, stem)

    @property
    def name(self) -> str:
        """Name of the kind."""
        return self.kind.name

    def __getattr__(self, name: str) -> Any:
        index = None if name.startswith("__") else self.kind.index.get(name)
        if index is None:
            raise AttributeError(f"Instruction {self.kind.name} has no field {name}")
        return self.values[index]

    def has(self, name: str) -> bool:
        """Whether the kind has this field."""
        return name in self.kind.index

    def view(self, name: str) -> View:
        """View `name` of the instruction."""
        return View(
            getattr(self, f"{name}_address"),
            FORMAT_NAMES[getattr(self, f"{name}_format")],
            getattr(self, f"{name}_row"),
            getattr(self, f"{name}_pixel"),
        )

    def replace(self, **changes: object) -> "Instruction":
        """Copy with some fields changed."""
        return Instruction(self.name, **{**dict(zip(self.kind.index, self.values, strict=True)), **changes})

    def __repr__(self) -> str:
        given = (
            f", {f.name}={v!r}" for f, v in zip(self.kind.fields, self.values, strict=True) if v != f.default
        )
        return f"Instruction({self.name!r}{''.join(given)})"


def units(*names: str) -> int:
    """Mask of units, as `wait` and `signal` hold it."""
    return sum(1 << UNITS.index(name) for name in set(names))


def unit_of(instruction: Instruction) -> str:
    """Unit that runs the instruction; `all` for `end`."""
    return UNITS[instruction.unit] if instruction.name == "sync" else instruction.kind.unit


def _checked(kind: str, field: Field, value: object) -> int | float:
    if field.kind == "float32":
        return _float32(kind, field, value)
    number = _number(kind, field, value)
    low, high = field.limits
    if not low <= number <= high:
        raise ProgramError(f"Field {kind}.{field.name} must lie in {low}..{high}, not {number}")
    return number


def _number(kind: str, field: Field, value: object) -> int:
    if field.unit == "units" and isinstance(value, Iterable):
        names = (value,) if isinstance(value, str) else tuple(value)
        if unknown := [str(name) for name in names if name not in UNITS]:
            raise ProgramError(
                f"Field {kind}.{field.name} must name units of {', '.join(UNITS)}, not {', '.join(unknown)}"
            )
        return units(*names)
    if isinstance(value, str):
        names = {"format": FORMAT_NAMES, "unit": UNITS}.get(field.unit, ())
        if value not in names:
            raise ProgramError(f"Field {kind}.{field.name} must be {_choice(names)}, not {value!r}")
        return names.index(value)
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ProgramError(f"Field {kind}.{field.name} must be {_choice(())}, not {value!r}") from None


def _choice(names: tuple[str, ...]) -> str:
    return f"one of {', '.join(names)}" if names else "an integer"


def _float32(kind: str, field: Field, value: object) -> float:
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except (struct.error, OverflowError):
        rounded = float("nan")
    if rounded - rounded != 0:
        raise ProgramError(f"Field {kind}.{field.name} must be a finite float32, not {value!r}")
    return rounded + 0.0  # -0.0 and 0.0 are one value, with one code


def _check_absent(instruction: Instruction, stem: str) -> None:
    address, kind, row, pixel = (
        getattr(instruction, f"{stem}_{part}") for part in ("address", "format", "row", "pixel")
    )
    if kind == NONE and (address or row or pixel):
        raise ProgramError(
            f"View {instruction.name}.{stem} of format none must have no address and no strides"
        )
