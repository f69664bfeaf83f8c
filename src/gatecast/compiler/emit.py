"""Pass 6: the section of weights, packed in order of first use, and the Program.

Ref: docs/spec/isa.md §§3, 7.
"""

import hashlib
from collections.abc import Iterable

from gatecast.isa import Architecture, Instruction, Program

from .allocate import Allocated, Placed
from .operations import Lowered

_ALIGNMENT = 64


class _Weights:
    """Bytes of the section; equal chunks are stored once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.known: dict[bytes, int] = {}

    def offset(self, content: bytes) -> int:
        """Offset of some content, appended if it is new."""
        digest = hashlib.sha256(content).digest()
        if digest not in self.known:
            self.known[digest] = self.size
            padding = -len(content) % _ALIGNMENT
            self.parts += [content, bytes(padding)]
            self.size += len(content) + padding
        return self.known[digest]


def emit(allocated: Allocated, lowered: Lowered, architecture: Architecture, producer: str) -> Program:
    """Return the Program of scheduled instructions."""
    weights = _Weights()
    prologue, body = (_text(part, weights) for part in (allocated.prologue, allocated.body))
    end = Instruction("end")
    first = [*prologue, end] if prologue else []
    return Program(
        architecture=architecture,
        text=(*first, *body, end),
        weights=b"".join(weights.parts),
        workspace_bytes=allocated.workspace_bytes,
        inputs=lowered.inputs,
        outputs=lowered.outputs,
        layers=allocated.layers,
        producer=producer,
        prologue=len(first),
    )


def _text(placed: Iterable[Placed], weights: _Weights) -> list[Instruction]:
    chunks: dict[int, int] = {}  # offset by identity: a chunk that is loaded again is packed once
    text = []
    for item in placed:
        instruction = item.instruction
        if item.chunk is not None:
            if id(item.chunk) not in chunks:
                chunks[id(item.chunk)] = weights.offset(item.chunk.to_bytes())
            instruction = instruction.replace(offset=chunks[id(item.chunk)])
        text.append(instruction)
    return text
