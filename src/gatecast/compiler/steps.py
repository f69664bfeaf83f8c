"""What tiling makes: instructions without addresses, and the areas of memory that they use."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from gatecast.errors import CompileError
from gatecast.numerics import BLOCK_SIZE, FORMATS, pack

from .operations import Epilogue, Panels, Range


@dataclass(frozen=True)
class Area:
    """Part of a memory, which gets its address later.

    Parameters
    ----------
    name : str
    memory : str
        ``activation``, ``weight``, ``vector``, or ``workspace`` in external memory.
    size : int
        Blocks, panels, vectors, or bytes.
    """

    name: str
    memory: str
    size: int


@dataclass(frozen=True)
class Part:
    """Taps and input blocks of a part of a sum."""

    rows: Range
    columns: Range
    blocks: Range

    @property
    def size(self) -> tuple[int, int, int]:
        """Kernel rows, kernel columns, input blocks."""
        return (
            self.rows[1] - self.rows[0],
            self.columns[1] - self.columns[0],
            self.blocks[1] - self.blocks[0],
        )

    @property
    def steps(self) -> int:
        """Panels for one output block."""
        rows, columns, blocks = self.size
        return rows * columns * blocks


@dataclass(frozen=True, eq=False)
class WeightChunk:
    """Panels that one `weights` instruction loads: of a range of output blocks, and a part of their sums."""

    panels: Panels
    blocks: Range
    part: Part

    @property
    def count(self) -> int:
        """Panels."""
        return (self.blocks[1] - self.blocks[0]) * self.part.steps

    def to_bytes(self) -> bytes:
        """Panels in external memory: 32 lanes of packed mantissas, then 32 exponents. Ref: isa.md §3."""
        index = tuple(slice(*r) for r in (self.blocks, self.part.rows, self.part.columns, self.part.blocks))
        mantissas = np.ascontiguousarray(self.panels.mantissas[index]).reshape(-1, BLOCK_SIZE, BLOCK_SIZE)
        exponents = np.ascontiguousarray(self.panels.exponents[index]).reshape(-1, BLOCK_SIZE)
        codes = pack(mantissas, FORMATS[self.panels.format]).reshape(len(exponents), -1)
        return np.concatenate([codes, exponents], axis=1).tobytes()


@dataclass(frozen=True, eq=False)
class ConstantChunk:
    """Vectors that one `constants` instruction loads: all of an epilogue's, for a range of output blocks."""

    epilogue: Epilogue
    blocks: Range

    @property
    def count(self) -> int:
        """Vectors."""
        return (self.blocks[1] - self.blocks[0]) * len(self.epilogue.vectors)

    @property
    def offsets(self) -> dict[str, int]:
        """Where each constant begins."""
        size = self.blocks[1] - self.blocks[0]
        return {name: number * size for number, name in enumerate(self.epilogue.vectors)}

    def to_bytes(self) -> bytes:
        """Little-endian float32."""
        parts: list[npt.NDArray[np.float32]] = [
            value[slice(*self.blocks)] for value in self.epilogue.vectors.values()
        ]
        return np.concatenate(parts).astype("<f4").tobytes()


Chunk = WeightChunk | ConstantChunk


@dataclass(frozen=True, eq=False)
class Step:
    """An instruction before it has addresses.

    Parameters
    ----------
    name : str
        Of the instruction.
    layer : str
    operation : int
        Number of the operation that it belongs to.
    fields : mapping
        Fields that are known.
    places : mapping of field to (area, offset)
        Fields that become the address of an area plus an offset.
    chunk : Chunk, optional
        What a `weights` or `constants` loads.
    """

    name: str
    layer: str
    operation: int
    fields: Mapping[str, int | float | str]
    places: Mapping[str, tuple[str, int]]
    chunk: Chunk | None = None


@dataclass(frozen=True, eq=False)
class Tiled:
    """Steps that run once, steps of each run, and all areas by name."""

    prologue: tuple[Step, ...]
    body: tuple[Step, ...]
    areas: Mapping[str, Area] = field(default_factory=dict)

    @property
    def steps(self) -> Iterator[Step]:
        """All steps in order."""
        return chain(self.prologue, self.body)


def check_tiled(tiled: Tiled) -> None:
    """Refuse steps that begin outside an area. CompileError: the compiler is wrong."""
    for step in tiled.steps:
        for name, (area, offset) in step.places.items():
            if area not in tiled.areas or not 0 <= offset < tiled.areas[area].size:
                raise CompileError(f"Field {name} of {step.name}, {step.layer}, must lie in area {area}")
