"""Chains of layers, and what is known while they are lowered."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gatecast import graph as op
from gatecast.isa import Architecture
from gatecast.numerics import BLOCK_SIZE, blocks_of

from .concat import Join
from .epilogue import epilogue_of
from .operations import Buffer, Epilogue, Operation, Ref
from .partition import Section


@dataclass(frozen=True)
class Chain:
    """Layers that one operation computes, the first one first, and the graph that they stand in."""

    layers: tuple[op.Layer, ...]
    graph: op.Graph

    @property
    def root(self) -> op.Layer:
        """The first layer."""
        return self.layers[0]

    @property
    def value(self) -> str:
        """Name of the value that it makes."""
        return self.layers[-1].name

    @property
    def format(self) -> str:
        """Format of that value: of the Encode that ends the chain, or float32."""
        last = self.layers[-1]
        return last.format.name if isinstance(last, op.Encode) else "float32"

    @property
    def size(self) -> tuple[int, int, int]:
        """Rows, columns, channels of the value."""
        rows, columns, channels = (1, 1, *self.graph.shapes[self.value])[-3:]
        return rows, columns, channels

    def source_size(self, operand: int = 0) -> tuple[int, int, int]:
        """Rows, columns, channels of what the first layer reads."""
        rows, columns, channels = (1, 1, *self.graph.shapes[self.root.inputs[operand]])[-3:]
        return rows, columns, channels

    def epilogue(self) -> Epilogue:
        """What follows the first layer."""
        given = getattr(self.root, "bias", None)
        begins = self.layers if isinstance(self.root, op.Affine | op.Activation) else self.layers[1:]
        return epilogue_of(begins, self.size[2], given)

    def place(self, state: "Lowering") -> Ref:
        """Where the value goes, which is about to be written."""
        return state.place(self.value, self.size, self.format)


@dataclass
class Lowering:
    """What is known while chains are lowered.

    Parameters
    ----------
    section, architecture
        What is lowered, and for what.
    buffers, refs, formats : dict
        Buffers by name; place and format of each value.
    aliases : dict of str to str
        Encodes of inputs that the host does, and the input.
    joins : dict of str to Join
        Concats by the value that they make.
    operations : list
        In order.
    """

    section: Section
    architecture: Architecture
    buffers: dict[str, Buffer] = field(default_factory=dict)
    refs: dict[str, Ref] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    joins: dict[str, Join] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)

    def ref(self, value: str) -> Ref:
        """Place of a value that is there; an input gets its buffer when it is first read."""
        value = self.aliases.get(value, value)
        if value not in self.refs:
            shape = self.section.graph.shapes[value]
            self.place(value, (1, 1, *shape)[-3:], self.formats[value])
        return self.refs[value]

    def place(self, value: str, size: Sequence[int], fmt: str) -> Ref:
        """Place of a value that is about to be written: inside a Concat, or in a buffer of its own."""
        if value not in self.refs:
            rows, columns, channels = size
            self.buffers[value] = Buffer(value, fmt, rows, columns, blocks_of(channels))
            self.refs[value] = Ref(value, 0, blocks_of(channels))
        return self.refs[value]


@dataclass(frozen=True)
class Alias:
    """A value that is, block for block, part of another one."""

    source: str
    block: int
    blocks: int


def alias_of(chain: Chain, state: Lowering) -> Alias | None:
    """What a chain reads, if that is what it makes: the same format and blocks, nothing computed."""
    root = chain.root
    if any(not isinstance(layer, op.Encode) for layer in chain.layers[1:]):
        return None
    block = 0
    if isinstance(root, op.Slice) and _keeps_blocks(root, chain):
        block = root.starts[2] // BLOCK_SIZE
    elif not isinstance(root, op.Flatten | op.Reshape | op.Encode):
        return None
    source = state.aliases.get(root.inputs[0], root.inputs[0])
    return Alias(source, block, blocks_of(chain.size[2])) if state.formats[source] == chain.format else None


def _keeps_blocks(layer: op.Slice, chain: Chain) -> bool:
    """Whether a slice takes whole blocks of whole rows."""
    return chain.source_size()[:2] == chain.size[:2] and whole_blocks(layer, chain)


def whole_blocks(layer: op.Slice, chain: Chain) -> bool:
    """Whether the channels of a slice are whole blocks."""
    start, stop = layer.starts[2], layer.starts[2] + chain.size[2]
    return start % BLOCK_SIZE == 0 and (stop % BLOCK_SIZE == 0 or stop == chain.source_size()[2])
