"""The tables of a Program: what is not text or weights, as canonical JSON. See docs/spec/isa.md §7."""

import json
from dataclasses import dataclass

from ..errors import FileError, ProgramError
from .architecture import Architecture, architecture_from_dict, canonical_json
from .ports import Port, port_from_dict

MAX_BYTES = 1 << 24
MAX_LAYERS = 1 << 14
"""Most layer names: the field `layer` has 14 bits."""


@dataclass(frozen=True)
class Tables:
    """Fields of a Program that its section `tables` holds."""

    architecture: Architecture
    inputs: tuple[Port, ...]
    layers: tuple[str, ...]
    numerics_version: int
    outputs: tuple[Port, ...]
    producer: str
    workspace_bytes: int

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        values = {
            **self.__dict__,
            "architecture": self.architecture.to_dict(),
            "inputs": [port.to_dict() for port in self.inputs],
            "outputs": [port.to_dict() for port in self.outputs],
        }
        return canonical_json(values)


def tables_from_bytes(content: memoryview) -> Tables:
    """Tables of a file; FileError names the table that is wrong."""
    if len(content) > MAX_BYTES:
        raise FileError(f"Section tables of the Program must have at most {MAX_BYTES} bytes")
    try:
        tables = json.loads(bytes(content))
    except (ValueError, RecursionError):
        raise FileError("Section tables of the Program must be JSON") from None
    names = Tables.__dataclass_fields__
    if not isinstance(tables, dict) or set(tables) != set(names):
        raise FileError(f"Section tables of the Program must hold {', '.join(names)}")
    return Tables(
        architecture=architecture_from_dict(tables["architecture"]),
        inputs=_ports(tables, "inputs"),
        layers=_layers(tables),
        numerics_version=_integer(tables, "numerics_version"),
        outputs=_ports(tables, "outputs"),
        producer=str(tables["producer"]),
        workspace_bytes=_integer(tables, "workspace_bytes"),
    )


def _integer(tables: dict[str, object], name: str) -> int:
    value = tables[name]
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise FileError(f"Table {name} of the Program must be an integer below 2**32, not {value!r}")
    return value


def _ports(tables: dict[str, object], name: str) -> tuple[Port, ...]:
    values = tables[name]
    if not isinstance(values, list):
        raise FileError(f"Table {name} of the Program must be a list")
    try:
        return tuple(port_from_dict(value) for value in values)
    except ProgramError as error:
        raise FileError(f"Table {name} of the Program: {error}") from None


def _layers(tables: dict[str, object]) -> tuple[str, ...]:
    names = tables["layers"]
    if not isinstance(names, list) or len(names) > MAX_LAYERS or not all(isinstance(n, str) for n in names):
        raise FileError(f"Table layers of the Program must be at most {MAX_LAYERS} names")
    return tuple(names)
