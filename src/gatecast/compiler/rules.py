"""How each kind of chain becomes operations: one function for each kind of first layer."""

from collections.abc import Sequence
from functools import singledispatch

from gatecast import graph as op
from gatecast.errors import CompileError
from gatecast.isa import MapOperation
from gatecast.numerics import BLOCK_SIZE, blocks_of

from .chain import Chain, Lowering, whole_blocks
from .epilogue import last_channels
from .operations import Area, Convolve, Epilogue, Kernel, Map, Operation, Pool, Ref
from .panels import selection, slab_panels, slabs
from .pools import average_pool, global_average_pool, max_pool


def lower_chain(chain: Chain, state: Lowering) -> list[Operation]:
    """Operations of a chain; places of what they write are entered into `state`."""
    return _lower(chain.root, chain, state)


@singledispatch
def _lower(root: op.Layer, chain: Chain, state: Lowering) -> list[Operation]:
    raise CompileError(f"Layer {root.name} must be one that the device has, not {type(root).__name__}")


_lower.register(op.MaxPool, max_pool)
_lower.register(op.AveragePool, average_pool)
_lower.register(op.GlobalAveragePool, global_average_pool)


@_lower.register
def _convolution(root: op.Convolution, chain: Chain, state: Lowering) -> list[Operation]:
    kernel = Kernel(root.kernel, root.stride, root.dilation, (root.pads[0], root.pads[1]))
    return _convolve(chain, state, kernel, root.groups)


@_lower.register
def _matmul(root: op.MatMul, chain: Chain, state: Lowering) -> list[Operation]:
    _, rows, columns, _ = root.weights.shape
    return _convolve(chain, state, Kernel((rows, columns)), 1)


def _convolve(chain: Chain, state: Lowering, kernel: Kernel, groups: int) -> list[Operation]:
    weights = getattr(chain.root, "weights", None)
    if not isinstance(weights, op.BlockWeights):
        raise CompileError(f"Weights of {chain.root.name} must be in blocks for the device")
    source, epilogue = state.ref(chain.root.inputs[0]), chain.epilogue()
    residual = _residual(chain, state)
    out = chain.place(state)
    found: list[Operation] = []
    for slab in slabs(weights.shape[0], weights.channels, groups):
        reach = slab.in_blocks * (-(-slab.blocks // slab.group_blocks) if slab.group_blocks else 1)
        found.append(
            Convolve(
                layer=chain.root.name,
                source=Ref(source.buffer, source.block + slab.in_first, reach),
                out=Ref(out.buffer, out.block + slab.first, slab.blocks),
                kernel=kernel,
                panels=slab_panels(weights, groups, slab),
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
        out = chain.place(state) if last else state.place(f"{chain.value}.{number}", size, "float32")
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
    return [Map(layer=root.name, a=source, out=chain.place(state), epilogue=chain.epilogue())]


@_lower.register
def _resize(root: op.Resize, chain: Chain, state: Lowering) -> list[Operation]:
    rows, columns, _ = chain.source_size()
    repeat = (root.size[0] // rows, root.size[1] // columns)
    source = state.ref(root.inputs[0])
    return [Map(layer=root.name, a=source, out=chain.place(state), repeat=repeat, epilogue=chain.epilogue())]


@_lower.register
def _slice(root: op.Slice, chain: Chain, state: Lowering) -> list[Operation]:
    """Whole blocks are a maximum over windows of one pixel; other channels are picked by weights 0 and 1."""
    source, (rows, columns, channels) = state.ref(root.inputs[0]), chain.size
    kernel = Kernel((1, 1), (root.steps[0], root.steps[1]), (1, 1), (-root.starts[0], -root.starts[1]))
    if whole_blocks(root, chain):
        part = Ref(source.buffer, source.block + root.starts[2] // BLOCK_SIZE, blocks_of(channels))
        areas = (Area((0, rows), (0, columns), 0.0),)
        out = chain.place(state)
        return [Pool(layer=root.name, maximum=True, source=part, out=out, kernel=kernel, areas=areas)]
    lanes = range(root.starts[2], root.starts[2] + channels)
    return [_select(chain, state, source, kernel, lanes)]


def _select(chain: Chain, state: Lowering, source: Ref, kernel: Kernel, lanes: Sequence[int]) -> Convolve:
    return Convolve(
        layer=chain.root.name,
        source=source,
        out=chain.place(state),
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
