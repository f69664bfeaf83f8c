"""How large the tiles of an operation may be.

A tile is some output rows, columns and blocks. What an operation reads or writes outside the chip passes
through slots, scratch areas of the size of a tile; two of them where a tile can be loaded while another is
computed. The largest tiles that fit are chosen; no choice changes a result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .operations import Buffer, Convolve, Deliver, Fetch, Map, Operation, Pool, Ref
from .steps import Part

FIELD = 255
"""Most that a kernel, stride or dilation of an instruction may be."""

_INSTRUCTION_COST = 2048
"""Bytes that could be moved in the time that one more instruction costs."""

Room = Mapping[str, int]
"""Free blocks, panels and vectors: keys ``activation``, ``weight``, ``vector``."""


@dataclass(frozen=True)
class Slot:
    """Scratch areas for one operand: `count` of `size` each."""

    name: str
    memory: str
    size: int
    count: int


@dataclass(frozen=True)
class Plan:
    """How an operation is cut.

    Parameters
    ----------
    tile : tuple of int
        Rows, columns, blocks of the largest tile.
    parts : tuple of Part
        Of each sum; one, the whole, for all but a `Convolve` whose sums are cut.
    slots : tuple of Slot
    blocks_first : bool
        Whether the outer loop is over output blocks, and the inner one over pixels.
    """

    tile: tuple[int, int, int]
    parts: tuple[Part, ...]
    slots: tuple[Slot, ...]
    blocks_first: bool = True


@dataclass(frozen=True)
class Site:
    """What a plan must know of the surroundings.

    Parameters
    ----------
    buffers : mapping of str to Buffer
    outside : frozenset of str
        Buffers that live in external memory.
    room : Room
    loads_constants, loads_weights : bool
        Whether constants and weights are loaded for each tile, not once for all runs.
    """

    buffers: Mapping[str, Buffer]
    outside: frozenset[str]
    room: Room
    loads_constants: bool
    loads_weights: bool

    def buffer(self, ref: Ref) -> Buffer:
        """Buffer of a ref."""
        return self.buffers[ref.buffer]

    def is_outside(self, ref: Ref | None) -> bool:
        """Whether a ref lives in external memory."""
        return ref is not None and ref.buffer in self.outside


@dataclass(frozen=True)
class Shortage:
    """What the smallest tiles would need of a memory that has less."""

    memory: str
    needed: int


def output_of(operation: Operation) -> Ref:
    """What tiles are cut from: what it writes, or what it delivers."""
    return operation.source if isinstance(operation, Deliver) else operation.writes[0]


def plan(operation: Operation, site: Site) -> Plan | Shortage:
    """Largest tiles that fit, or what even the smallest lack."""
    best: tuple[int, Plan] | None = None
    steps = operation.steps if isinstance(operation, Convolve) else 0
    short: Shortage | None = None
    for blocks, parts in _choices(operation, site):
        if best is not None and len(parts) > 1:
            break
        found = _largest(operation, site, blocks, parts)
        if isinstance(found, Shortage):
            short = min(short or found, found, key=lambda lack: lack.needed)
            continue
        cost, found = _with_order(operation, site, found)
        if best is None or cost < best[0]:
            best = (cost, found)
        if len(parts) > 1:
            break
    return best[1] if best is not None else short or Shortage("weight", steps)


def _choices(operation: Operation, site: Site) -> Iterator[tuple[int, tuple[Part, ...]]]:
    """Blocks of a tile and parts of a sum, from the coarsest to the finest."""
    blocks = output_of(operation).blocks
    whole: tuple[Part, ...] = (Part((0, 1), (0, 1), (0, 1)),)
    if not isinstance(operation, Convolve):
        yield from ((size, whole) for size in _halves(blocks))
        return
    room = site.room["weight"]
    steps, kernel = operation.steps, operation.kernel
    if max(*kernel.size, *kernel.dilation) <= FIELD and steps <= room:
        budget = room if steps * blocks <= room else max(room // 2, steps)
        whole = tuple(_rows_of(operation, kernel.size[0]))
        for size in _halves(min(blocks, budget // steps)):
            yield size, whole
    budgets = (room // 2, room) if site.loads_weights else (room,)
    for cut in _cuts(operation):
        if max(part.steps for part in cut) <= budgets[0]:
            yield 1, cut
    for cut in _cuts(operation):
        if max(part.steps for part in cut) <= room:
            yield 1, cut


def _halves(size: int) -> Iterator[int]:
    while size > 1:
        yield size
        size = -(-size // 2)
    yield 1


def _cuts(operation: Convolve) -> Iterator[tuple[Part, ...]]:
    """Ways to cut a sum where its order is kept: after a row; a tap of one row; a block of one tap."""
    rows, columns = operation.kernel.size
    if columns <= FIELD:
        for height in _halves(min(rows, FIELD)):
            if height < rows and (height == 1 or operation.kernel.dilation[0] <= FIELD):
                yield tuple(_rows_of(operation, height))
    for width in _halves(min(columns, FIELD)):
        if width < columns:
            yield tuple(
                Part((y, y + 1), (x, min(x + width, columns)), (0, operation.in_blocks))
                for y in range(rows)
                for x in range(0, columns, width)
            )
    for blocks in _halves(operation.in_blocks):
        if blocks < operation.in_blocks:
            yield tuple(
                Part((y, y + 1), (x, x + 1), (b, min(b + blocks, operation.in_blocks)))
                for y in range(rows)
                for x in range(columns)
                for b in range(0, operation.in_blocks, blocks)
            )


def _rows_of(operation: Convolve, height: int) -> Iterator[Part]:
    rows, columns = operation.kernel.size
    for top in range(0, rows, height):
        yield Part((top, min(top + height, rows)), (0, columns), (0, operation.in_blocks))


def _largest(operation: Operation, site: Site, blocks: int, parts: tuple[Part, ...]) -> Plan | Shortage:
    """Fewest tiles along rows, then along columns; two slots for each operand if they fit."""
    buffer = site.buffer(output_of(operation))
    unit = operation.repeat if isinstance(operation, Map) else (1, 1)
    stride = operation.kernel.stride if isinstance(operation, Convolve | Pool) else (1, 1)
    limit = [
        step if spread > FIELD else size
        for size, step, spread in zip((buffer.rows, buffer.columns), unit, stride, strict=True)
    ]
    short: Shortage | None = None
    for rows, columns, sets in _sizes((limit[0], limit[1]), unit):
        slots = _slots(operation, site, (rows, columns, blocks), parts, sets)
        short = _lacking(slots, site.room)
        if short is None:
            return Plan((rows, columns, blocks), parts, slots)
    return short or Shortage("activation", 0)


def _sizes(limit: tuple[int, int], unit: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    """Rows, columns, slots of each operand: the whole; then rows cut in two, three, …; then columns."""
    yield *limit, 1
    for sets in (2, 1):
        yield from ((rows, limit[1], sets) for rows in _shares(limit[0], unit[0]))
        yield from ((unit[0], columns, sets) for columns in _shares(limit[1], unit[1]))


def _shares(size: int, unit: int) -> list[int]:
    """Distinct sizes of the largest of two, three, … equal shares, in multiples of `unit`."""
    units = -(-size // unit)
    return list(dict.fromkeys(-(-units // count) * unit for count in range(2, units + 1)))


def _lacking(slots: Sequence[Slot], room: Room) -> Shortage | None:
    """Memory in which the slots do not fit, if there is one."""
    for memory, free in room.items():
        needed = sum(slot.size * slot.count for slot in slots if slot.memory == memory)
        if needed > free:
            return Shortage(memory, needed)
    return None


def _slots(
    operation: Operation, site: Site, tile: tuple[int, int, int], parts: Sequence[Part], sets: int
) -> tuple[Slot, ...]:
    rows, columns, blocks = tile
    size = rows * columns * blocks
    found = []
    for name, ref, count in _operands(operation, site, tile, parts):
        if site.is_outside(ref):
            found.append(Slot(name, site.buffer(ref).memory, count, sets))
    epilogue = getattr(operation, "epilogue", None)
    if epilogue is not None and epilogue.vectors and site.loads_constants:
        found.append(Slot("constants", "vector", blocks * len(epilogue.vectors), 1))
    if len(parts) > 1:
        found.append(Slot("partials", "vector", size, 1))
    return tuple(found)


def _operands(
    operation: Operation, site: Site, tile: tuple[int, int, int], parts: Sequence[Part]
) -> Iterator[tuple[str, Ref, int]]:
    """Each operand with its name in the instruction and its size for a tile."""
    rows, columns, blocks = tile
    size = rows * columns * blocks
    match operation:
        case Convolve():
            yield "in", operation.source, max(_read_by(operation, site, tile, part) for part in parts)
            if operation.residual is not None:
                yield "residual", operation.residual, size
        case Pool():
            part = Part((0, operation.kernel.size[0]), (0, operation.kernel.size[1]), (0, blocks))
            yield "in", operation.source, _read_by(operation, site, tile, part)
        case Map():
            for name, ref in (("a", operation.a), ("b", operation.b)):
                if ref is not None and is_broadcast(operation, ref, site.buffers):
                    yield name, ref, blocks
                elif ref is not None:
                    repeat = operation.repeat if name == "a" else (1, 1)
                    yield name, ref, -(-rows // repeat[0]) * -(-columns // repeat[1]) * blocks
        case Fetch():
            yield "out", operation.out, size
            return
        case Deliver():
            yield "in", operation.source, size
            return
    yield "out", output_of(operation), size


def is_broadcast(operation: Map, ref: Ref, buffers: Mapping[str, Buffer]) -> bool:
    """Whether an operand of one pixel serves all pixels of the result."""
    buffer, out = buffers[ref.buffer], buffers[operation.out.buffer]
    single = (buffer.rows, buffer.columns) == (1, 1) != (out.rows, out.columns)
    return single and operation.repeat == (1, 1)


def _read_by(operation: Convolve | Pool, site: Site, tile: tuple[int, int, int], part: Part) -> int:
    """Most blocks that a tile reads for a part of its sums."""
    buffer, kernel = site.buffer(operation.source), operation.kernel
    rows, columns = (
        min(have, (count - 1) * stride + (taps - 1) * dilation + 1)
        for have, count, stride, taps, dilation in zip(
            (buffer.rows, buffer.columns), tile, kernel.stride, part.size, kernel.dilation, strict=False
        )
    )
    return rows * columns * read_blocks(operation, (0, tile[2]), part)


def read_blocks(operation: Convolve | Pool, blocks: tuple[int, int], part: Part) -> int:
    """Input blocks of a pixel that output blocks `blocks` read for a part of their sums."""
    if isinstance(operation, Pool):
        return blocks[1] - blocks[0]
    if not operation.group_blocks:
        return part.size[2]
    first, last = blocks[0] // operation.group_blocks, (blocks[1] - 1) // operation.group_blocks
    return (last - first + 1) * part.size[2]


def block_ranges(operation: Operation, size: int) -> list[tuple[int, int]]:
    """Output blocks in ranges of at most `size`: whole groups, or parts of one."""
    blocks = output_of(operation).blocks
    group = operation.group_blocks if isinstance(operation, Convolve) else 0
    if group and group < size < blocks:
        size = size // group * group
    limit = group if group and size < group else blocks
    return [
        (first, min(first + size, start + limit, blocks))
        for start in range(0, blocks, limit)
        for first in range(start, min(start + limit, blocks), size)
    ]


def _with_order(operation: Operation, site: Site, found: Plan) -> tuple[int, Plan]:
    """Cost of a plan in bytes moved and instructions, with the cheaper order of its loops."""
    buffer, ranges = site.buffer(output_of(operation)), len(block_ranges(operation, found.tile[2]))
    tiles = -(-buffer.rows // found.tile[0]) * -(-buffer.columns // found.tile[1])
    instructions = tiles * ranges * len(found.parts)
    weights = 0
    if isinstance(operation, Convolve) and site.loads_weights:
        weights = operation.steps * operation.out.blocks * 1056
    read = sum(site.buffer(ref).size * 33 for ref in operation.reads if site.is_outside(ref))
    once, many = len(found.parts) == 1, ranges * len(found.parts) > 1
    blocks_first = weights * (1 if once else tiles) + read * ranges
    pixels_first = weights * (tiles if many else 1) + read
    order = blocks_first <= pixels_first
    cost = min(blocks_first, pixels_first) + instructions * _INSTRUCTION_COST
    return cost, Plan(found.tile, found.parts, found.slots, order)
