"""What lowering makes: operations on maps, before anything has an address.

An operation becomes one instruction where all that it touches fits on chip, else several.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from gatecast.errors import CompileError
from gatecast.isa import Activation, MapOperation, Port

Float32 = npt.NDArray[np.float32]
Pair = tuple[int, int]
Range = tuple[int, int]


@dataclass(frozen=True)
class Buffer:
    """A map: rows x columns pixels of `blocks` blocks, or of vectors if `format` is ``float32``."""

    name: str
    format: str
    rows: int
    columns: int
    blocks: int

    @property
    def size(self) -> int:
        """Blocks, or vectors."""
        return self.rows * self.columns * self.blocks

    @property
    def memory(self) -> str:
        """On-chip memory that it lies in."""
        return "vector" if self.format == "float32" else "activation"


@dataclass(frozen=True)
class Ref:
    """`blocks` blocks of each pixel of a buffer, from block `block`: parts of a Concat lie side by side."""

    buffer: str
    block: int
    blocks: int


@dataclass(frozen=True, eq=False)
class Panels:
    """Weights as instructions take them: int8 ``[out block, kh, kw, in block, 32 lanes, 32]``.

    `exponents` is the same without the last axis. `format` is the name of the format.
    """

    format: str
    mantissas: npt.NDArray[np.int8]
    exponents: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Kernel:
    """A window: kernel, stride, dilation as (rows, columns), and padding before the first row and column."""

    size: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    before: Pair = (0, 0)


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What follows a sum or an operation; vectors are float32 ``[blocks, 32]``, zero in absent lanes."""

    bias: Float32 | None = None
    scale: Float32 | None = None
    shift: Float32 | None = None
    activation: Activation = Activation.NONE
    low: float = 0.0
    high: float = 0.0
    last_channels: int = 32

    @property
    def vectors(self) -> dict[str, Float32]:
        """Constants by name, in the order in which they are stored."""
        named = {"bias": self.bias, "scale": self.scale, "shift": self.shift}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """Base of all: `layer` is the graph's layer that it belongs to, for listings and reports."""

    layer: str

    @property
    def reads(self) -> tuple[Ref, ...]:
        """All that it reads."""
        found = (getattr(self, spec.name) for spec in fields(self) if spec.name != "out")
        return tuple(value for value in found if isinstance(value, Ref))

    @property
    def writes(self) -> tuple[Ref, ...]:
        """All that it writes."""
        out = getattr(self, "out", None)
        return (out,) if isinstance(out, Ref) else ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolve(Operation):
    """A convolution with its epilogue; `in_blocks` and `group_blocks` as the instruction has them."""

    source: Ref
    out: Ref
    kernel: Kernel
    panels: Panels
    in_blocks: int
    group_blocks: int = 0
    residual: Ref | None = None
    epilogue: Epilogue = field(default_factory=Epilogue)

    @property
    def steps(self) -> int:
        """Panels for each output block."""
        return self.kernel.size[0] * self.kernel.size[1] * self.in_blocks


@dataclass(frozen=True)
class Area:
    """Output rows and columns of a pool that share a factor."""

    rows: Range
    columns: Range
    factor: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool(Operation):
    """A pool; its areas cover the result, and a maximum has one with factor 0."""

    maximum: bool
    source: Ref
    out: Ref
    kernel: Kernel
    areas: tuple[Area, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Map(Operation):
    """One operation on one or two maps; one of a single pixel is broadcast."""

    a: Ref
    out: Ref
    operation: MapOperation = MapOperation.COPY
    repeat: Pair = (1, 1)
    b: Ref | None = None
    epilogue: Epilogue = field(default_factory=Epilogue)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fetch(Operation):
    """An input of the Program comes in."""

    port: str
    out: Ref


@dataclass(frozen=True, kw_only=True, eq=False)
class Deliver(Operation):
    """An output of the Program goes out."""

    port: str
    source: Ref


@dataclass(frozen=True, eq=False)
class Lowered:
    """Operations in order, the buffers they touch, and the ports of the Program."""

    name: str
    buffers: Mapping[str, Buffer]
    operations: tuple[Operation, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def check_lowered(lowered: Lowered) -> None:
    """Refuse operations that read what was not written, leave a buffer, or write a block twice.

    Raises
    ------
    CompileError
        The compiler is wrong; layer and buffer are named.
    """
    written: dict[str, set[int]] = {name: set() for name in lowered.buffers}
    for operation in lowered.operations:
        for ref in operation.reads:
            if not set(_blocks(lowered, operation, ref)) <= written[ref.buffer]:
                raise CompileError(
                    f"Layer {operation.layer} must read blocks of {ref.buffer} that are written"
                )
        for ref in operation.writes:
            blocks = set(_blocks(lowered, operation, ref))
            if blocks & written[ref.buffer]:
                raise CompileError(f"Layer {operation.layer} must write blocks of {ref.buffer} once")
            written[ref.buffer] |= blocks


def _blocks(lowered: Lowered, operation: Operation, ref: Ref) -> Iterator[int]:
    if ref.blocks < 1 or ref.block + ref.blocks > lowered.buffers[ref.buffer].blocks:
        raise CompileError(f"Layer {operation.layer} must stay within {ref.buffer}, not use {ref}")
    yield from range(ref.block, ref.block + ref.blocks)
