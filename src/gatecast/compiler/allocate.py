"""Pass 4: give each area its address, by first fit among the areas that live at the same time.

Weight memory is a ring: each load takes the panels after those of the one before, so that a load can run
while the panels before it are still read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gatecast.errors import CompileError, ProgramError
from gatecast.isa import Architecture, Instruction

from .steps import Area, Chunk, Step, Tiled
from .tile import NoRoomError

_ALIGNMENT = {"workspace": 64}
WORKSPACE_BYTES = 1 << 28
"""Most bytes of a workspace."""


@dataclass(frozen=True, eq=False)
class Placed:
    """An instruction with its addresses, and what it loads from the weights."""

    instruction: Instruction
    layer: str
    chunk: Chunk | None = None


@dataclass(frozen=True, eq=False)
class Allocated:
    """Instructions of the prologue and of each run, layer names by number, bytes of the workspace."""

    prologue: tuple[Placed, ...]
    body: tuple[Placed, ...]
    layers: tuple[str, ...]
    workspace_bytes: int


def allocate(tiled: Tiled, architecture: Architecture) -> Allocated:
    """Return instructions with addresses.

    Raises
    ------
    NoRoomError
        Areas that live at the same time do not fit, because of gaps between them.
    """
    lives = _lives(tiled)
    sizes = {
        "activation": architecture.activation_blocks,
        "vector": architecture.vectors,
        "workspace": WORKSPACE_BYTES,
    }
    addresses = _ring(tiled, lives, architecture.weight_panels)
    for memory, size in sizes.items():
        areas = [area for area in tiled.areas.values() if area.memory == memory and area.name in lives]
        addresses |= _first_fit(areas, lives, size, tiled)
    used = [
        addresses[area.name] + area.size
        for area in tiled.areas.values()
        if area.memory == "workspace" and area.name in addresses
    ]
    layers = tuple(dict.fromkeys(step.layer for step in tiled.steps))
    numbers = {layer: number for number, layer in enumerate(layers)}
    prologue, body = (
        tuple(_placed(step, addresses, numbers) for step in part) for part in (tiled.prologue, tiled.body)
    )
    return Allocated(prologue, body, layers, max(used, default=0))


def _lives(tiled: Tiled) -> dict[str, tuple[int, int]]:
    """First and last step that touch each area; an area of the prologue lives to the end."""
    found: dict[str, tuple[int, int]] = {}
    end = len(tiled.prologue) + len(tiled.body)
    for number, step in enumerate(tiled.steps):
        for area, _ in step.places.values():
            first, last = found.get(area, (number, number))
            found[area] = (first, end if number < len(tiled.prologue) else max(last, number))
    return found


def _ring(tiled: Tiled, lives: Mapping[str, tuple[int, int]], panels: int) -> dict[str, int]:
    areas = [area for area in tiled.areas.values() if area.memory == "weight" and area.name in lives]
    addresses, position = {}, 0
    for area in sorted(areas, key=lambda area: lives[area.name]):
        addresses[area.name] = position
        position = (position + area.size) % panels
    return addresses


def _first_fit(
    areas: Sequence[Area], lives: Mapping[str, tuple[int, int]], size: int, tiled: Tiled
) -> dict[str, int]:
    addresses: dict[str, int] = {}
    alive: list[Area] = []
    for area in sorted(areas, key=lambda area: (lives[area.name][0], -area.size, area.name)):
        first = lives[area.name][0]
        alive = [other for other in alive if lives[other.name][1] >= first]
        position = _gap(alive, addresses, area)
        if position + area.size > size:
            step = list(tiled.steps)[first]
            raise NoRoomError(area.memory, step.operation, area.size)
        addresses[area.name] = position
        alive.append(area)
    return addresses


def _gap(alive: Sequence[Area], addresses: Mapping[str, int], area: Area) -> int:
    """Lowest address from which `area` meets no area that is alive."""
    position, alignment = 0, _ALIGNMENT.get(area.memory, 1)
    for other in sorted(alive, key=lambda other: addresses[other.name]):
        if position + area.size <= addresses[other.name]:
            break
        position = max(position, addresses[other.name] + other.size)
        position = -(-position // alignment) * alignment
    return position


def _placed(step: Step, addresses: Mapping[str, int], numbers: Mapping[str, int]) -> Placed:
    found = {name: addresses[area] + offset for name, (area, offset) in step.places.items()}
    try:
        instruction = Instruction(step.name, layer=numbers[step.layer], **step.fields, **found)
    except ProgramError as error:  # a map or a pitch that is too large for its field
        raise CompileError(f"Layer {step.layer} must fit an instruction: {error}") from error
    return Placed(instruction, step.layer, step.chunk)
