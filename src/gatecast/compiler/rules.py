"""How each kind of chain becomes operations: one function for each kind of first layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np

from gatecast import graph as op
from gatecast.errors import CompileError
from gatecast.isa import Architecture, MapOperation
from gatecast.numerics import BLOCK_SIZE, average_factor, blocks_of

from .concat import Join
from .epilogue import epilogue_of, last_channels
from .operations import Area, Buffer, Convolve, Epilogue, Kernel, Map, Operation, Pool, Ref
from .panels import ones, selection, slab_panels, slabs
from .partition import Section

_FIELD = 255
"""Most that a kernel of an instruction may be."""


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

    def epilogue(self, bias: op.Layer | None = None) -> Epilogue:
        """What follows the first layer."""
        given = getattr(self.root, "bias", None)
        begins = self.layers if isinstance(self.root, op.Affine | op.Activation) else self.layers[1:]
        return epilogue_of(begins, self.size[2], given)


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
    return chain.source_size()[:2] == chain.size[:2] and _whole_blocks(layer, chain)


def _whole_blocks(layer: op.Slice, chain: Chain) -> bool:
    start, stop = layer.starts[2], layer.starts[2] + chain.size[2]
    return start % BLOCK_SIZE == 0 and (stop % BLOCK_SIZE == 0 or stop == chain.source_size()[2])


def lower_chain(chain: Chain, state: Lowering) -> list[Operation]:
    """Operations of a chain; places of what they write are entered into `state`."""
    return _lower(chain.root, chain, state)


@singledispatch
def _lower(root: op.Layer, chain: Chain, state: Lowering) -> list[Operation]:
    raise CompileError(f"Layer {root.name} must be one that the device has, not {type(root).__name__}")


def _out(chain: Chain, state: Lowering) -> Ref:
    return state.place(chain.value, chain.size, chain.format)


@_lower.register
def _convolution(root: op.Convolution, chain: Chain, state: Lowering) -> list[Operation]:
    kernel = Kernel(root.kernel, root.stride, root.dilation, (root.pads[0], root.pads[1]))
    return _convolve(chain, state, kernel, root.weights, root.first_blocks)


@_lower.register
def _matmul(root: op.MatMul, chain: Chain, state: Lowering) -> list[Operation]:
    _, rows, columns, _ = root.weights.shape
    return _convolve(chain, state, Kernel((rows, columns)), root.weights, (0,))


def _convolve(
    chain: Chain, state: Lowering, kernel: Kernel, weights: object, first_blocks: tuple[int, ...]
) -> list[Operation]:
    if not isinstance(weights, op.BlockWeights):
        raise CompileError(f"Weights of {chain.root.name} must be in blocks for the device")
    source, epilogue = state.ref(chain.root.inputs[0]), chain.epilogue()
    residual = _residual(chain, state)
    out = _out(chain, state)
    outputs, pieces = weights.shape[0], weights.exponents.shape[3]
    found: list[Operation] = []
    for slab in slabs(outputs, first_blocks, pieces, source.blocks):
        reach = slab.in_blocks * (-(-slab.blocks // slab.group_blocks) if slab.group_blocks else 1)
        found.append(
            Convolve(
                layer=chain.root.name,
                source=Ref(source.buffer, source.block + slab.in_first, reach),
                out=Ref(out.buffer, out.block + slab.first, slab.blocks),
                kernel=kernel,
                panels=slab_panels(weights, first_blocks, slab),
                in_blocks=slab.in_blocks,
                group_blocks=slab.group_blocks,
                residual=residual and Ref(residual.buffer, residual.block + slab.first, slab.blocks),
                epilogue=_part(epilogue, slab.first, slab.blocks, out.blocks),
            )
        )
    return found


def _residual(chain: Chain, state: Lowering) -> Ref | None:
    for before, layer in zip(chain.layers, chain.layers[1:], strict=False):
        if isinstance(layer, op.Elementwise):
            return state.ref(next(name for name in layer.inputs if name != before.name))
    return None


def _part(epilogue: Epilogue, first: int, blocks: int, of: int) -> Epilogue:
    """Epilogue of some output blocks."""
    if blocks == of:
        return epilogue
    named = {name: value[first : first + blocks] for name, value in epilogue.vectors.items()}
    last = epilogue.last_channels if first + blocks == of else BLOCK_SIZE
    return Epilogue(
        **named,
        activation=epilogue.activation,
        low=epilogue.low,
        high=epilogue.high,
        last_channels=last,
    )


@_lower.register
def _max_pool(root: op.MaxPool, chain: Chain, state: Lowering) -> list[Operation]:
    kernel = Kernel(root.kernel, root.stride, (1, 1), (root.pads[0], root.pads[1]))
    source = state.ref(root.inputs[0])
    whole = (Area((0, chain.size[0]), (0, chain.size[1]), 0.0),)
    if _fits(kernel, state):
        out = _out(chain, state)
        return [Pool(layer=root.name, maximum=True, source=source, out=out, kernel=kernel, areas=whole)]
    if any(root.pads) or root.ceil:
        raise CompileError(
            f"Layer {root.name} must have a kernel that fits {state.architecture.name}, or no padding, "
            f"not {root.kernel} with padding {root.pads}"
        )
    return _max_pool_by_rows(chain, state, kernel, source)


def _fits(kernel: Kernel, state: Lowering) -> bool:
    """Whether one window of a pool, and its result, fit on chip."""
    rows, columns = kernel.size
    return max(rows, columns) <= _FIELD and rows * columns < state.architecture.activation_blocks


def _max_pool_by_rows(chain: Chain, state: Lowering, kernel: Kernel, source: Ref) -> list[Operation]:
    """Maxima of some rows of each window, kept in float32; then the maximum of those."""
    rows, columns = kernel.size
    height = min(_FIELD, rows - 1, (state.architecture.activation_blocks - 1) // columns)
    if columns > _FIELD or height < 1:
        raise CompileError(
            f"Layer {chain.root.name} must have a row of its kernel fit {state.architecture.name}, "
            f"not {columns} pixels"
        )
    found: list[Operation] = []
    whole = (Area((0, chain.size[0]), (0, chain.size[1]), 0.0),)
    previous: Ref | None = None
    for top in range(0, rows, height):
        part = Kernel((min(height, rows - top), columns), kernel.stride, (1, 1), (-top, 0))
        out = state.place(f"{chain.value}.max{top}", chain.size, "float32")
        found.append(
            Pool(layer=chain.root.name, maximum=True, source=source, out=out, kernel=part, areas=whole)
        )
        if previous is not None:
            last = top + height >= rows
            target = (
                _out(chain, state) if last else state.place(f"{chain.value}.to{top}", chain.size, "float32")
            )
            found.append(
                Map(
                    layer=chain.root.name,
                    a=previous,
                    b=out,
                    out=target,
                    operation=MapOperation.MAXIMUM,
                    epilogue=Epilogue(last_channels=last_channels(chain.size[2])),
                )
            )
            out = target
        previous = out
    return found


@_lower.register
def _average_pool(root: op.AveragePool, chain: Chain, state: Lowering) -> list[Operation]:
    counts = _counts(root, chain)
    kernel = Kernel(root.kernel, root.stride, (1, 1), (root.pads[0], root.pads[1]))
    areas = tuple(
        Area(rows, columns, float(average_factor(int(counts[0][rows[0]] * counts[1][columns[0]]))))
        for rows in _runs(counts[0])
        for columns in _runs(counts[1])
    )
    return _average(chain, state, kernel, areas)


def _counts(root: op.AveragePool, chain: Chain) -> list[list[int]]:
    """Positions that each window divides by, along rows and along columns."""
    found = []
    for axis in (0, 1):
        size, before, after = chain.source_size()[axis], root.pads[axis], root.pads[axis + 2]
        low, high = (-before, size + after) if root.count_pads else (0, size)
        starts = [i * root.stride[axis] - before for i in range(chain.size[axis])]
        found.append([min(start + root.kernel[axis], high) - max(start, low) for start in starts])
    return found


def _runs(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of equal neighbours."""
    starts = [i for i, count in enumerate(counts) if i == 0 or count != counts[i - 1]]
    return list(zip(starts, [*starts[1:], len(counts)], strict=True))


@_lower.register
def _global_average_pool(root: op.GlobalAveragePool, chain: Chain, state: Lowering) -> list[Operation]:
    rows, columns, _ = chain.source_size()
    area = Area((0, 1), (0, 1), float(average_factor(rows * columns)))
    return _average(chain, state, Kernel((rows, columns)), (area,))


def _average(chain: Chain, state: Lowering, kernel: Kernel, areas: tuple[Area, ...]) -> list[Operation]:
    name, source = chain.root.name, state.ref(chain.root.inputs[0])
    if _fits(kernel, state):
        out = _out(chain, state)
        return [Pool(layer=name, maximum=False, source=source, out=out, kernel=kernel, areas=areas)]
    if len(areas) > 1:
        raise CompileError(
            f"Layer {name} must have a kernel that fits {state.architecture.name}, or divide by one number, "
            f"not {kernel.size} with padding"
        )
    return _average_by_convolution(chain, state, kernel, areas[0].factor)


def _average_by_convolution(chain: Chain, state: Lowering, kernel: Kernel, factor: float) -> list[Operation]:
    """Sums of a depthwise convolution with weights 1, which can be cut; then the factor as a scale."""
    name, source = chain.root.name, state.ref(chain.root.inputs[0])
    sums = state.place(f"{chain.value}.sums", chain.size, "float32")
    channels = last_channels(chain.size[2])
    scale = np.full((sums.blocks, BLOCK_SIZE), factor, np.float32)
    return [
        Convolve(
            layer=name,
            source=source,
            out=sums,
            kernel=kernel,
            panels=ones(sums.blocks, kernel.size),
            in_blocks=1,
            group_blocks=1,
            epilogue=Epilogue(last_channels=channels),
        ),
        Map(
            layer=name,
            a=sums,
            out=_out(chain, state),
            epilogue=Epilogue(scale=scale, shift=np.zeros_like(scale), last_channels=channels),
        ),
    ]


_OPERATIONS = {
    "add": MapOperation.ADD,
    "subtract": MapOperation.SUBTRACT,
    "multiply": MapOperation.MULTIPLY,
    "maximum": MapOperation.MAXIMUM,
    "minimum": MapOperation.MINIMUM,
}


@_lower.register
def _elementwise(root: op.Elementwise, chain: Chain, state: Lowering) -> list[Operation]:
    """From left to right; what lies between two operations stays in float32."""
    found: list[Operation] = []
    a, size = state.ref(root.inputs[0]), chain.source_size()
    for number, name in enumerate(root.inputs[1:], 1):
        b, last = state.ref(name), number == len(root.inputs) - 1
        size = max(size, chain.source_size(number), key=lambda s: s[0] * s[1])
        out = _out(chain, state) if last else state.place(f"{chain.value}.{number}", size, "float32")
        epilogue = chain.epilogue() if last else Epilogue(last_channels=last_channels(size[2]))
        found.append(
            Map(layer=root.name, a=a, b=b, out=out, operation=_OPERATIONS[root.kind], epilogue=epilogue)
        )
        a = out
    return found


@_lower.register(op.Affine)
@_lower.register(op.Activation)
@_lower.register(op.Encode)
@_lower.register(op.Flatten)
@_lower.register(op.Reshape)
def _copy(root: op.Layer, chain: Chain, state: Lowering) -> list[Operation]:
    source = state.ref(root.inputs[0])
    return [Map(layer=root.name, a=source, out=_out(chain, state), epilogue=chain.epilogue())]


@_lower.register
def _resize(root: op.Resize, chain: Chain, state: Lowering) -> list[Operation]:
    rows, columns, _ = chain.source_size()
    repeat = (root.size[0] // rows, root.size[1] // columns)
    source = state.ref(root.inputs[0])
    return [Map(layer=root.name, a=source, out=_out(chain, state), repeat=repeat, epilogue=chain.epilogue())]


@_lower.register
def _slice(root: op.Slice, chain: Chain, state: Lowering) -> list[Operation]:
    """Whole blocks are a maximum over windows of one pixel; other channels are picked by weights 0 and 1."""
    source, (rows, columns, channels) = state.ref(root.inputs[0]), chain.size
    kernel = Kernel((1, 1), (root.steps[0], root.steps[1]), (1, 1), (-root.starts[0], -root.starts[1]))
    if _whole_blocks(root, chain):
        part = Ref(source.buffer, source.block + root.starts[2] // BLOCK_SIZE, blocks_of(channels))
        areas = (Area((0, rows), (0, columns), 0.0),)
        out = _out(chain, state)
        return [Pool(layer=root.name, maximum=True, source=part, out=out, kernel=kernel, areas=areas)]
    lanes = range(root.starts[2], root.starts[2] + channels)
    return [_select(chain, state, source, kernel, lanes)]


def _select(chain: Chain, state: Lowering, source: Ref, kernel: Kernel, lanes: Sequence[int]) -> Convolve:
    return Convolve(
        layer=chain.root.name,
        source=source,
        out=_out(chain, state),
        kernel=kernel,
        panels=selection(lanes, source.blocks),
        in_blocks=source.blocks,
        epilogue=Epilogue(last_channels=last_channels(chain.size[2])),
    )


@_lower.register
def _concat(root: op.Concat, chain: Chain, state: Lowering) -> list[Operation]:
    """Copy the parts that do not lie in their place yet; gather unaligned ones, then pick their lanes."""
    join = state.joins[chain.value]
    if join.aligned:
        target = state.refs[chain.value]
    else:
        target = Ref(join.gathered, 0, join.offsets[-1])
    found: list[Operation] = []
    for part, channels, start in zip(join.parts, join.channels, join.offsets, strict=False):
        place = Ref(target.buffer, target.block + start, blocks_of(channels))
        if state.ref(part) != place:
            epilogue = Epilogue(last_channels=last_channels(channels))
            found.append(Map(layer=root.name, a=state.ref(part), out=place, epilogue=epilogue))
    if not join.aligned:
        lanes = [
            start * BLOCK_SIZE + lane
            for start, channels in zip(join.offsets, join.channels, strict=False)
            for lane in range(channels)
        ]
        found.append(_select(chain, state, target, Kernel((1, 1)), lanes))
    return found
