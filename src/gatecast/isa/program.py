"""Programs: what a compiler makes and a device runs. See docs/spec/isa.md §7 for the file."""

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import FileError
from .architecture import Architecture
from .container import Container, read_container, write_container
from .encoding import decode_text, encode_text
from .instructions import INSTRUCTION_BYTES, Instruction
from .ports import Port, pack_ports, section_bytes, unpack_ports
from .tables import Tables, tables_from_bytes

NUMERICS_VERSION = 1
"""Version of docs/spec/numerics.md that Programs of this library promise."""

MAX_TEXT = 1 << 18
"""Most instructions of a Program."""

Buffer = bytes | bytearray | memoryview | mmap.mmap


@dataclass(frozen=True)
class Program:
    """Computes one image on one Architecture.

    Parameters
    ----------
    architecture : Architecture
        What it was compiled for.
    text : tuple of Instruction
        Prologue, then body; `end` closes each. Text order is a legal schedule (docs/spec/isa.md §5).
    prologue : int
        Number of instructions of the prologue, its `end` included; 0 if there is none.
    weights : bytes-like
        Section of panels and vectors; may be a memory map, which is not copied.
    workspace_bytes : int
        Size of the section `workspace`, whose content does not outlive a run.
    inputs, outputs : tuple of Port
        What the host packs and unpacks.
    layers : tuple of str
        Names by the number that instructions carry.
    producer : str
        Who made it, such as `gatecast 0.1.0`.
    numerics_version : int
        Version of the arithmetic contract.
    """

    architecture: Architecture
    text: tuple[Instruction, ...]
    weights: Buffer = b""
    workspace_bytes: int = 0
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    layers: tuple[str, ...] = ()
    producer: str = ""
    prologue: int = 0
    numerics_version: int = field(default=NUMERICS_VERSION)

    def __post_init__(self) -> None:
        for name in ("text", "inputs", "outputs", "layers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "weights", memoryview(self.weights).toreadonly().cast("B"))

    @property
    def body(self) -> Sequence[Instruction]:
        """Instructions that each run executes."""
        return self.text[self.prologue :]

    @property
    def inputs_bytes(self) -> int:
        """Size of the section `inputs`."""
        return section_bytes(self.inputs)

    @property
    def outputs_bytes(self) -> int:
        """Size of the section `outputs`."""
        return section_bytes(self.outputs)

    def to_bytes(self) -> bytes:
        """File of this Program, the same bytes each time."""
        tables = Tables(
            self.architecture,
            self.inputs,
            self.layers,
            self.numerics_version,
            self.outputs,
            self.producer,
            self.workspace_bytes,
        )
        sections: dict[str, bytes | memoryview] = {
            "text": encode_text(self.text),
            "weights": memoryview(self.weights),
            "tables": tables.to_bytes(),
        }
        return write_container(Container(self.architecture.digest, self.prologue, sections))

    @classmethod
    def from_bytes(cls, buffer: Buffer) -> "Program":
        """Program of a file; its weights are a view of `buffer`, not a copy.

        Raises
        ------
        FileError
            The file is truncated, damaged, or of another kind or version; the section is named.
        ProgramError
            An instruction is none of this version.
        """
        container = read_container(memoryview(buffer).toreadonly().cast("B"))
        sections = container.sections
        if len(sections["text"]) > MAX_TEXT * INSTRUCTION_BYTES:
            raise FileError(f"Section text of the Program must have at most {MAX_TEXT} instructions")
        tables = tables_from_bytes(memoryview(sections["tables"]))
        if tables.architecture.digest != container.digest:
            raise FileError(
                "Header of the Program is damaged: its architecture digest is not that of the tables"
            )
        text = decode_text(sections["text"])
        ends = [number for number, instruction in enumerate(text) if instruction.name == "end"]
        prologue = container.prologue
        if ends[:-1] != ([prologue - 1] if prologue else []):
            raise FileError(f"Header of the Program is damaged: no prologue has {prologue} instructions")
        return cls(text=text, prologue=prologue, weights=sections["weights"], **tables.__dict__)

    def layer_name(self, number: int) -> str:
        """Name of a layer, or its number if the Program has no name for it."""
        return self.layers[number] if number < len(self.layers) else f"layer {number}"


def pack_inputs(program: Program, tensors: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    """Section `inputs` from float32 ``[rows, columns, channels]`` tensors by name; see `pack_ports`."""
    return pack_ports(program.inputs, tensors)


def unpack_outputs(program: Program, section: bytes | memoryview) -> dict[str, npt.NDArray[np.float32]]:
    """Tensors float32 ``[rows, columns, channels]`` by name, of the section `outputs`."""
    return unpack_ports(program.outputs, section)
