"""Pass 2: layers of the device become operations on buffers.

A chain of layers that the graph does not round in between becomes one operation, at the place of its last
layer. Concat, slices and reshapes are addresses where blocks allow it.
"""

from collections.abc import Iterable, Mapping, Sequence

from gatecast.errors import CompileError
from gatecast.graph import Concat, Encode, Layer, Shape
from gatecast.isa import Architecture, Port
from gatecast.numerics import FORMATS

from .chain import Chain, Lowering, alias_of
from .concat import Join, place_joins
from .operations import Buffer, Convolve, Deliver, Fetch, Lowered, Operation, Ref
from .partition import Section
from .rules import lower_chain

_LAYERS = 1 << 14


def lower(section: Section, architecture: Architecture) -> Lowered:
    """Return the operations of a device section.

    Raises
    ------
    CompileError
        A layer that no instruction of the Architecture can compute, or too many of them.
    """
    if len(section.graph.layers) > _LAYERS:
        raise CompileError(
            f"Section {section.name} must have at most {_LAYERS} layers, not {len(section.graph.layers)}"
        )
    chains = _chains(section)
    state = Lowering(section, architecture)
    ports = _take_inputs(section, state)
    _place(section, chains, state)
    for chain in chains:
        _lower_one(chain, state)
    outputs = _deliver(section, state)
    operations = _with_fetches(state, ports)
    _check_formats(operations, state.buffers, architecture)
    return Lowered(
        section.name, state.buffers, tuple(operations), _laid_out(ports.values()), _laid_out(outputs)
    )


def _check_formats(
    operations: Iterable[Operation], buffers: Mapping[str, Buffer], sizes: Architecture
) -> None:
    """Refuse formats that are wider than those of the Architecture."""
    for operation in operations:
        found = [
            ("activations", buffers[ref.buffer].format, sizes.max_activation_bits)
            for ref in (*operation.reads, *operation.writes)
        ]
        if isinstance(operation, Convolve):
            found.append(("weights", operation.panels.format, sizes.max_weight_bits))
        for what, name, bits in found:
            if name in FORMATS and FORMATS[name].bits > bits:
                raise CompileError(
                    f"Layer {operation.layer} must have {what} of at most {bits} bits for {sizes.name}, "
                    f"not {name}",
                    hint="Quantise with narrower formats, the first layer's (`--first`) included.",
                )


def _chains(section: Section) -> list[Chain]:
    """Layers of the section in chains, each at the place of its last layer; without Encodes of inputs."""
    graph, operands = section.graph, section.fusion.operands
    riders = {operand: name for name, operand in operands.items()}
    chains = []
    for layer in graph.layers:
        if layer.name in riders or _is_port_encode(section, layer):
            continue
        members = [layer]
        while members[0].name in operands:
            members.insert(0, graph.by_name[operands[members[0].name]])
        chains.append(Chain(tuple(members), graph))
    return chains


def _is_port_encode(section: Section, layer: Layer) -> bool:
    """Whether the host encodes when it packs the input: all that reads it is this Encode."""
    if not isinstance(layer, Encode) or layer.inputs[0] in section.graph.by_name:
        return False
    source = layer.inputs[0]
    readers = section.graph.consumers[source]
    formats = {reader.format for reader in readers if isinstance(reader, Encode)}
    encoded = all(isinstance(reader, Encode) for reader in readers)
    return (
        encoded and len(formats) == 1 and section.formats.get(source, layer.format.name) == layer.format.name
    )


def map_size(shape: Shape) -> tuple[int, int, int]:
    """Rows, columns, channels of a value; a vector is one pixel."""
    rows, columns, channels = (1, 1, *shape) if len(shape) == 1 else shape
    return rows, columns, channels


def _take_inputs(section: Section, state: Lowering) -> dict[str, Port]:
    """Ports of the section; what reads them by an Encode of the port's own format reads the port."""
    ports = {}
    for value in section.graph.inputs:
        if len(value.shape) not in (1, 3):
            raise CompileError(
                f"Value {value.name} must be a map or a vector for the device, not {value.shape}"
            )
        encodes = [layer for layer in section.graph.consumers[value.name] if _is_port_encode(section, layer)]
        fmt = section.formats.get(value.name, "float32")
        for layer in encodes:
            fmt = layer.format.name if isinstance(layer, Encode) else fmt
            state.aliases[layer.name] = value.name
        ports[value.name] = Port.packed(value.name, map_size(value.shape), fmt)
        state.formats[value.name] = fmt
    return ports


def _place(section: Section, chains: Sequence[Chain], state: Lowering) -> None:
    """Choose the places of values that are parts of a Concat."""
    for chain in chains:
        state.formats[chain.value] = chain.format
    own = {state.aliases.get(value.name, value.name) for value in section.graph.inputs}
    own |= {chain.value for chain in chains if alias_of(chain, state) is None}
    joins = [_join(chain, state) for chain in chains if isinstance(chain.root, Concat)]
    placement = place_joins(joins, lambda value: state.aliases.get(value, value) in own)
    for value, ref in placement.refs.items():
        state.refs.setdefault(state.aliases.get(value, value), ref)
    state.buffers.update(placement.buffers)
    state.joins.update({join.value: join for join in joins})


def _join(chain: Chain, state: Lowering) -> Join:
    graph, root = chain.graph, chain.root
    shapes = [map_size(graph.shapes[name]) for name in root.inputs]
    parts = tuple(state.aliases.get(name, name) for name in root.inputs)
    return Join(
        value=chain.value,
        parts=parts,
        channels=tuple(shape[2] for shape in shapes),
        format=chain.format,
        part_formats=tuple(state.formats[part] for part in parts),
        size=shapes[0][:2],
    )


def _lower_one(chain: Chain, state: Lowering) -> None:
    alias = alias_of(chain, state)
    if alias is None:
        state.operations += lower_chain(chain, state)
        return
    found = state.ref(alias.source)
    state.refs[chain.value] = Ref(found.buffer, found.block + alias.block, alias.blocks)


def _deliver(section: Section, state: Lowering) -> list[Port]:
    """Store each output right behind the operation that makes it."""
    ports = []
    for name in section.graph.outputs:
        ref = state.ref(name)
        fmt = state.buffers[ref.buffer].format
        ports.append(Port.packed(name, map_size(section.graph.shapes[name]), fmt))
        last = max(
            (i for i, operation in enumerate(state.operations) if _meets(operation.writes, ref)), default=-1
        )
        state.operations.insert(last + 1, Deliver(layer=name, port=name, source=ref))
    return ports


def _meets(refs: Sequence[Ref], wanted: Ref) -> bool:
    return any(
        ref.buffer == wanted.buffer
        and ref.block < wanted.block + wanted.blocks
        and wanted.block < ref.block + ref.blocks
        for ref in refs
    )


def _with_fetches(state: Lowering, ports: Iterable[str]) -> list[Operation]:
    """Fetch each input just before the first operation that reads it, for the Encode that it has become."""
    layers = {value: encode for encode, value in reversed(state.aliases.items())}
    waiting = {
        name: Fetch(layer=layers.get(name, name), port=name, out=state.refs[name])
        for name in ports
        if name in state.refs
    }
    found: list[Operation] = []
    for operation in state.operations:
        for name, fetch in list(waiting.items()):
            if any(_meets([ref], fetch.out) for ref in operation.reads):
                found.append(waiting.pop(name))
        found.append(operation)
    return found


def _laid_out(ports: Iterable[Port]) -> tuple[Port, ...]:
    """Ports one after the other in their section."""
    placed: list[Port] = []
    for port in ports:
        offset = placed[-1].end if placed else 0
        placed.append(Port.packed(port.name, port.shape, port.format, offset))
    return tuple(placed)
