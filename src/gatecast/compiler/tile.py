"""Pass 3: cut operations into tiles that fit the memories of an Architecture.

Maps live on chip where they fit, else in external memory; `outside` names those that must not stay on
chip, and is what `fit` enlarges until addresses can be found for all.
"""

from collections.abc import Mapping

from gatecast.errors import CompileError
from gatecast.isa import Architecture

from .homes import homes, workspace_area
from .operations import Convolve, Deliver, Fetch, Lowered, Operation
from .plan import Plan, Room, Shortage, Site, plan
from .steps import Area, Tiled
from .write import Writer

CONSTANTS, WEIGHTS = "(constants)", "(weights)"
"""Names in `outside` for constants and weights that are not kept on chip from run to run."""


class NoRoomError(CompileError):
    """A memory is too small while operation `number` runs; its smallest tiles need `needed` of it."""

    def __init__(self, memory: str, number: int, needed: int) -> None:
        super().__init__(f"Operation {number} must find {needed} in {memory} memory")
        self.memory = memory
        self.number = number
        self.needed = needed


Plans = dict[object, Plan | Shortage]
"""Plans that were made before, by all that they depend on."""


def tile(lowered: Lowered, architecture: Architecture, outside: frozenset[str], plans: Plans) -> Tiled:
    """Plan all operations, then write them.

    Raises
    ------
    NoRoomError
        An operation does not fit beside the maps that are kept on chip while it runs.
    """
    places = homes(lowered, outside)
    rooms = _rooms(lowered, architecture, outside)
    chosen: dict[int, Plan] = {}
    for number, operation in enumerate(lowered.operations):
        if not _is_direct(operation, places):
            chosen[number] = _plan(lowered, outside, number, rooms[number], plans)
    writer = Writer(lowered, places, WEIGHTS not in outside, CONSTANTS not in outside)
    writer.areas.update(
        {n: Area(n, b.memory, b.size) for n, b in lowered.buffers.items() if n not in outside}
    )
    writer.areas.update({n: workspace_area(home) for n, home in places.items() if home.area})
    for number, found in chosen.items():
        writer.write(number, lowered.operations[number], found)
    return Tiled(tuple(writer.prologue), tuple(writer.body), writer.areas)


def _plan(lowered: Lowered, outside: frozenset[str], number: int, room: Room, plans: Plans) -> Plan:
    operation = lowered.operations[number]
    for memory, free in room.items():
        if free < 0:
            raise NoRoomError(memory, number, -free)
    touched = {ref.buffer for ref in (*operation.reads, *operation.writes)}
    flags = CONSTANTS in outside, WEIGHTS in outside
    key = (number, frozenset(touched & outside), tuple(room.values()), flags)
    if key not in plans:
        plans[key] = plan(operation, Site(lowered.buffers, outside, room, *flags))
    found = plans[key]
    if isinstance(found, Shortage):
        raise NoRoomError(found.memory, number, found.needed)
    return found


def _is_direct(operation: Operation, places: Mapping[str, object]) -> bool:
    """Whether an input is read, or an output written, where it is."""
    home = None
    if isinstance(operation, Fetch):
        home = places.get(operation.out.buffer)
    elif isinstance(operation, Deliver):
        home = places.get(operation.source.buffer)
    layout = getattr(home, "layout", None)
    return (
        home is not None
        and getattr(home, "area", None) is None
        and layout is not None
        and (layout.name == getattr(operation, "port", None))
    )


def lives(lowered: Lowered) -> dict[str, tuple[int, int]]:
    """First and last operation that touch each buffer."""
    found: dict[str, tuple[int, int]] = {}
    for number, operation in enumerate(lowered.operations):
        for ref in (*operation.reads, *operation.writes):
            first, _ = found.get(ref.buffer, (number, number))
            found[ref.buffer] = (first, number)
    return found


def panels_of(lowered: Lowered) -> int:
    """Panels of all weights."""
    return sum(o.steps * o.out.blocks for o in lowered.operations if isinstance(o, Convolve))


def constants_of(lowered: Lowered) -> int:
    """Vectors of all constants."""
    epilogues = [getattr(operation, "epilogue", None) for operation in lowered.operations]
    return sum(len(value) for e in epilogues if e is not None for value in e.vectors.values())


def _rooms(lowered: Lowered, architecture: Architecture, outside: frozenset[str]) -> list[dict[str, int]]:
    """For each operation, what is left beside the maps and constants that stay while it runs."""
    free = {
        "activation": architecture.activation_blocks,
        "vector": architecture.vectors - (0 if CONSTANTS in outside else constants_of(lowered)),
        "weight": architecture.weight_panels,
    }
    rooms = [dict(free) for _ in lowered.operations]
    for name, (first, last) in lives(lowered).items():
        if name not in outside:
            buffer = lowered.buffers[name]
            for room in rooms[first : last + 1]:
                room[buffer.memory] -= buffer.size
    return rooms
