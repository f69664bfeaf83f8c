"""Inputs and outputs of a Program: logical shape, and how the host packs it.

See docs/spec/isa.md §3 and §7.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ProgramError, RequestError
from ..numerics import (
    BLOCK_SIZE,
    FORMATS,
    blocks_of,
    bounded,
    decode,
    encode_map,
    lanes_of,
    require_bounded,
    unpack,
)
from .addressing import ExternalMap, element_bytes

ALIGNMENT = 64
"""Maps, rows of each plane, and sections start at multiples of this many bytes."""

MAX_BLOCKS = 1 << 24
"""Most blocks of one map; a bound on what a file can make a reader allocate."""


def align(offset: int) -> int:
    """Smallest multiple of 64 that is not below `offset`."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Port:
    """An input or output: a map of ``[rows, columns, channels]`` in the section `inputs` or `outputs`.

    Parameters
    ----------
    name : str
        Unique among the inputs, or the outputs, of a Program.
    rows, columns, channels : int
        Logical shape.
    format : str
        `float32` or a block format.
    offset, row_pitch, exponents, exponent_pitch, pixel_pitch : int
        Place in the section, as in `load` (bytes; `pixel_pitch` in blocks).
    block_channels : tuple of int
        How many channels each block holds, from lane 0; further lanes are zero.
    """

    name: str
    rows: int
    columns: int
    channels: int
    format: str
    offset: int
    row_pitch: int
    exponents: int
    exponent_pitch: int
    pixel_pitch: int
    block_channels: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.format != "float32" and self.format not in FORMATS:
            raise self._error(
                "format", f"must be float32 or one of {', '.join(FORMATS)}, not {self.format!r}"
            )
        for name in ("rows", "columns", "channels", "pixel_pitch"):
            if getattr(self, name) < 1:
                raise self._error(name, f"must be at least 1, not {getattr(self, name)}")
        for name in ("offset", "row_pitch", "exponents", "exponent_pitch"):
            if getattr(self, name) % ALIGNMENT or not 0 <= getattr(self, name) < 1 << 32:
                raise self._error(
                    name, f"must be a multiple of {ALIGNMENT} below 2**32, not {getattr(self, name)}"
                )
        if not all(1 <= count <= BLOCK_SIZE for count in self.block_channels):
            raise self._error("block_channels", f"must lie in 1..{BLOCK_SIZE}")
        if sum(self.block_channels) != self.channels:
            raise self._error("block_channels", f"must add up to the {self.channels} channels")
        if self.pixel_pitch < self.blocks or self.rows * self.columns * self.pixel_pitch > MAX_BLOCKS:
            raise self._error("pixel_pitch", f"must hold the {self.blocks} blocks, and the map {MAX_BLOCKS}")

    def _error(self, field: str, problem: str) -> ProgramError:
        return ProgramError(f"Field {field} of port {self.name!r} {problem}")

    @classmethod
    def packed(cls, name: str, shape: tuple[int, int, int], format_name: str, offset: int = 0) -> "Port":
        """Port of ``(rows, columns, channels)`` laid out without gaps, its planes after each other."""
        rows, columns, channels = shape
        blocks = blocks_of(channels)
        row_pitch = align(columns * blocks * element_bytes(format_name))
        encoded = format_name != "float32"
        full, rest = divmod(channels, BLOCK_SIZE)
        return cls(
            name,
            rows,
            columns,
            channels,
            format_name,
            offset,
            row_pitch,
            offset + rows * row_pitch if encoded else 0,
            align(columns * blocks) if encoded else 0,
            blocks,
            (BLOCK_SIZE,) * full + ((rest,) if rest else ()),
        )

    @property
    def blocks(self) -> int:
        """Blocks of one pixel."""
        return len(self.block_channels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, channels."""
        return self.rows, self.columns, self.channels

    @cached_property
    def map(self) -> ExternalMap:
        """Where the blocks lie."""
        place = (self.offset, self.row_pitch, self.exponents, self.exponent_pitch, self.pixel_pitch)
        return ExternalMap(self.format, self.rows, self.columns, self.blocks, *place)

    @cached_property
    def end(self) -> int:
        """First multiple of 64 after the map, where the next port may begin."""
        return align(self.map.end)

    def to_dict(self) -> dict[str, Any]:
        """Fields, as the tables of a Program hold them."""
        return {**asdict(self), "block_channels": list(self.block_channels)}


def port_from_dict(values: object) -> Port:
    """Port of the tables of a Program; ProgramError unless each field is there and of its type."""
    if not isinstance(values, Mapping) or set(values) != {f.name for f in fields(Port)}:
        raise ProgramError(f"Port must have the fields {', '.join(f.name for f in fields(Port))}")
    counts = values["block_channels"]
    numbers = [v for k, v in values.items() if k not in ("name", "format", "block_channels")]
    if not isinstance(counts, list) or not all(type(n) is int for n in (*numbers, *counts)):
        raise ProgramError(f"Numbers of port {values['name']!r} must be integers")
    if not isinstance(values["name"], str) or not isinstance(values["format"], str):
        raise ProgramError(f"Name and format of port {values['name']!r} must be text")
    return Port(**{**values, "block_channels": tuple(counts)})


def section_bytes(ports: Iterable[Port]) -> int:
    """Bytes of the section that holds these ports."""
    return max((port.end for port in ports), default=0)


def pack_ports(ports: Iterable[Port], tensors: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    """Section that holds float32 ``[rows, columns, channels]`` tensors, each in its port's format.

    Magnitudes below 2**-80 become +0.0 (docs/spec/numerics.md §3).

    Raises
    ------
    RequestError
        A tensor is missing, unknown, of another shape or type, or has a value that is not finite or is
        beyond 2**64; the tensor and the index are named.
    """
    ports = tuple(ports)
    names = [port.name for port in ports]
    if set(names) != set(tensors):
        raise RequestError(f"Inputs must be {', '.join(names)}, not {', '.join(tensors) or 'nothing'}")
    section = np.zeros(section_bytes(ports), np.uint8)
    for port in ports:
        pack_port(port, section, tensors[port.name])
    return section.tobytes()


def pack_port(port: Port, section: npt.NDArray[np.uint8], tensor: npt.NDArray[np.float32]) -> None:
    """Write one port's tensor into its section, whose other bytes stay; see `pack_ports`."""
    if tensor.shape != port.shape or tensor.dtype != np.float32:
        raise RequestError(
            f"Input {port.name!r} must be float32 {list(port.shape)}, not {tensor.dtype} {list(tensor.shape)}"
        )
    values = port.map.values_of(section)
    if not port.map.encoded:
        lanes = np.zeros((port.rows, port.columns, port.blocks * BLOCK_SIZE), np.float32)
        lanes[..., lanes_of(port.block_channels)] = bounded(tensor, f"input {port.name}")
        values[...] = lanes.astype("<f4").view(np.uint8).reshape(values.shape)
        return
    exponents = port.map.exponents_of(section)
    if not encode_map(tensor, port.block_channels, FORMATS[port.format], values, exponents):
        require_bounded(tensor, f"input {port.name}")


def unpack_ports(ports: Iterable[Port], section: bytes | memoryview) -> dict[str, npt.NDArray[np.float32]]:
    """Tensors float32 ``[rows, columns, channels]`` of a section; the inverse of `pack_ports`."""
    ports = tuple(ports)
    if len(section) != section_bytes(ports):
        raise ProgramError(f"Section must have {section_bytes(ports)} bytes, not {len(section)}")
    data = np.frombuffer(section, np.uint8)
    return {port.name: _tensor(port, data) for port in ports}


def _tensor(port: Port, section: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    filled = all(count == BLOCK_SIZE for count in port.block_channels[:-1])
    if (
        filled and not port.map.encoded and port.rows * port.columns == 1
    ):  # scores, mostly: nothing lies between
        values = section[port.offset : port.offset + 4 * port.channels].view("<f4")
        return values.astype(np.float32).reshape(port.shape)
    lanes = _read(port, section)
    return lanes[..., : port.channels] if filled else lanes[..., lanes_of(port.block_channels)]


def _read(port: Port, section: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    values = np.ascontiguousarray(port.map.values_of(section))
    if not port.map.encoded:
        return values.view("<f4").reshape(port.rows, port.columns, -1).astype(np.float32)
    fmt = FORMATS[port.format]
    return decode(unpack(values, fmt), np.ascontiguousarray(port.map.exponents_of(section)), fmt)
