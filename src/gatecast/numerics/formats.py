"""Number formats as values: bfp4 … bfp8, and pairs of them for weights and activations.

Ref: docs/spec/numerics.md §1; OCP Microscaling Formats (MX) v1.0 for MXINT8, which bfp8 is.
"""

from dataclasses import dataclass

from gatecast.errors import FormatError

BLOCK_SIZE = 32
"""Values that share one exponent."""

EXPONENT_MIN, EXPONENT_MAX = -48, 48
"""Range of the shared exponent; encode clamps to it."""

EXPONENT_BIAS = 127
"""A stored exponent is one byte, E + 127."""

SMALLEST, LARGEST = 2.0**-80, 2.0**64
"""Magnitudes of biases, shifts, clip limits and inputs that are not 0."""

MAX_SUM_BLOCKS = 2**14
"""Most blocks in one sum; with the range of E no partial sum can overflow or be subnormal."""


@dataclass(frozen=True)
class Format:
    """A block floating point format: 32 integer mantissas of `bits` bits, sign included, share one exponent.

    A value is ``mantissa * 2**(exponent - (bits - 2))``.
    """

    name: str
    bits: int

    @property
    def mantissa_max(self) -> int:
        """Largest mantissa; the smallest is its negative."""
        return (1 << self.bits - 1) - 1

    @property
    def block_bytes(self) -> int:
        """Bytes of one block's mantissas when packed."""
        return BLOCK_SIZE * self.bits // 8

    def __str__(self) -> str:
        return self.name


BFP4, BFP5, BFP6, BFP7, BFP8 = (Format(f"bfp{bits}", bits) for bits in range(4, 9))

FORMATS = {fmt.name: fmt for fmt in (BFP4, BFP5, BFP6, BFP7, BFP8)}
"""All formats by name."""


@dataclass(frozen=True)
class FormatPair:
    """Formats of the weights and of the activations of a layer; written ``bfp8`` or ``bfp5/bfp6``."""

    weights: Format
    activations: Format

    def __str__(self) -> str:
        if self.weights == self.activations:
            return self.weights.name
        return f"{self.weights}/{self.activations}"


def parse_format(name: str) -> Format:
    """Return the format called `name`; FormatError if there is none."""
    if name not in FORMATS:
        raise FormatError(f"Format must be one of {', '.join(FORMATS)}, not {name!r}")
    return FORMATS[name]


def parse_formats(text: str) -> FormatPair:
    """Read ``bfp8`` or ``weights/activations`` as in ``bfp5/bfp6``; FormatError if it is neither."""
    weights, slash, activations = text.partition("/")
    return FormatPair(parse_format(weights), parse_format(activations if slash else weights))
