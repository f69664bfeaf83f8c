"""Architectures: the sizes of one NPU. See docs/spec/isa.md §4.

*Binding* fields decide whether a Program is valid; *speed* fields only how long it takes. A Program names
the Architecture that it was compiled for and carries the digest of its binding fields.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..errors import FileError, NotFoundError


def _binding(doc: str) -> Any:
    return field(metadata={"kind": "binding", "doc": doc})


def _speed(doc: str) -> Any:
    return field(default=0, metadata={"kind": "speed", "doc": doc})


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of one NPU; docs/spec/isa.md §4 gives units. A speed field of 0 means that it does not apply."""

    name: str
    activation_blocks: int = _binding("Blocks of activation memory")
    weight_panels: int = _binding("Panels of weight memory, which wraps")
    vectors: int = _binding("Vectors of 32 float32 of vector memory")
    max_weight_bits: int = _binding("Widest weight format, bits")
    max_activation_bits: int = _binding("Widest activation format, bits")
    max_interleave: int = _binding("Most pixels that a lane keeps in flight (accumulators)")
    max_split: int = _binding("Most groups that the lanes may form, a power of 2")
    lanes: int = _speed("Output channels at once")
    depth: int = _speed("Blocks of one sum at once")
    pixels: int = _speed("Pixels at once")
    adder_latency: int = _speed("Cycles of the float32 accumulator's loop")
    epilogue_values: int = _speed("Values that the epilogue takes, a cycle")
    vector_values: int = _speed("Values that pools and maps read, a cycle")
    clock_mhz: float = _speed("Clock, MHz")
    memory_gbs: float = _speed("Peak bandwidth of external memory, GB/s")

    @property
    def digest(self) -> bytes:
        """First 16 bytes of the SHA-256 of the binding fields as canonical JSON."""
        binding = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("kind") == "binding"}
        return hashlib.sha256(canonical_json(binding)).digest()[:16]

    def to_dict(self) -> dict[str, str | int | float]:
        """Name and fields, as the tables of a Program hold them."""
        return asdict(self)


def canonical_json(value: object) -> bytes:
    """One text for one value: keys sorted, no spaces, ASCII; the same bytes each time."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def architecture_from_dict(values: object) -> Architecture:
    """Architecture of the tables of a Program; FileError unless each field is there once and is a number."""
    names = {f.name for f in fields(Architecture)}
    if not isinstance(values, Mapping) or set(values) != names:
        raise FileError(f"Architecture of a Program must have the fields {', '.join(sorted(names))}")
    for spec in fields(Architecture):
        value = values[spec.name]
        expected = str if spec.name == "name" else (int, float) if spec.type is float else int
        negative = isinstance(value, int | float) and value < 0
        if not isinstance(value, expected) or isinstance(value, bool) or negative:
            raise FileError(f"Field {spec.name} of an Architecture must not be {value!r}")
    return Architecture(**values)


_BFP8 = {"max_weight_bits": 8, "max_activation_bits": 8}

SOFTWARE = Architecture(
    name="software",
    activation_blocks=1 << 24,
    weight_panels=1 << 24,
    vectors=1 << 24,
    max_interleave=63,
    max_split=1,
    **_BFP8,
)
TINY = Architecture(
    name="tiny",
    activation_blocks=128,
    weight_panels=24,
    vectors=64,
    max_interleave=12,
    max_split=1,
    lanes=4,
    depth=1,
    pixels=1,
    adder_latency=7,
    epilogue_values=2,
    vector_values=2,
    clock_mhz=100,
    memory_gbs=1,
    **_BFP8,
)
TINY_SPLIT = replace(TINY, name="tiny_split", max_split=2, lanes=64)
ECP5_85F = Architecture(
    name="ecp5_85f",
    activation_blocks=4_096,
    weight_panels=96,
    vectors=256,
    max_interleave=16,
    max_split=1,
    lanes=8,
    depth=1,
    pixels=1,
    adder_latency=7,
    epilogue_values=2,
    vector_values=2,
    clock_mhz=75,
    memory_gbs=1.8,
    **_BFP8,
)
KV260 = Architecture(
    name="kv260",
    activation_blocks=47_104,
    weight_panels=512,
    vectors=1_024,
    max_interleave=32,
    max_split=2,
    lanes=64,
    depth=1,
    pixels=1,
    adder_latency=9,
    epilogue_values=32,
    vector_values=32,
    clock_mhz=300,
    memory_gbs=19.2,
    **_BFP8,
)
KV260_BFP6 = replace(KV260, name="kv260_bfp6", pixels=2, max_weight_bits=6, max_activation_bits=6)
A10 = Architecture(
    name="a10",
    activation_blocks=63_488,
    weight_panels=3_456,
    vectors=1_024,
    max_interleave=32,
    max_split=4,
    lanes=128,
    depth=1,
    pixels=2,
    adder_latency=9,
    epilogue_values=64,
    vector_values=64,
    clock_mhz=300,
    memory_gbs=18,
    **_BFP8,
)
A10_BFP6 = replace(
    A10,
    name="a10_bfp6",
    activation_blocks=61_440,
    weight_panels=5_120,
    max_split=8,
    lanes=256,
    max_weight_bits=6,
    max_activation_bits=6,
)
A10_BFP5 = replace(A10_BFP6, name="a10_bfp5", max_weight_bits=5, max_activation_bits=5)
U250 = Architecture(
    name="u250",
    activation_blocks=253_952,
    weight_panels=4_096,
    vectors=4_096,
    max_interleave=32,
    max_split=8,
    lanes=256,
    depth=1,
    pixels=2,
    adder_latency=9,
    epilogue_values=128,
    vector_values=128,
    clock_mhz=300,
    memory_gbs=77,
    **_BFP8,
)

ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (SOFTWARE, TINY, TINY_SPLIT, ECP5_85F, KV260, KV260_BFP6, A10, A10_BFP6, A10_BFP5, U250)
}


def architecture(name: str) -> Architecture:
    """Named Architecture; NotFoundError lists the names."""
    if name not in ARCHITECTURES:
        raise NotFoundError(
            f"Architecture {name!r} is not known", hint=f"Known are {', '.join(sorted(ARCHITECTURES))}."
        )
    return ARCHITECTURES[name]
