"""Passes 3 and 4 in turn, until tiles and addresses agree: what does not fit moves to external memory."""

from gatecast.errors import CompileError
from gatecast.isa import Architecture

from .allocate import Allocated, allocate
from .operations import Lowered
from .steps import check_tiled
from .tile import CONSTANTS, WEIGHTS, NoRoomError, Plans, constants_of, lives, panels_of, tile

_SIZES = {"activation": "activation_blocks", "vector": "vectors", "weight": "weight_panels"}


def fit(lowered: Lowered, architecture: Architecture) -> Allocated:
    """Tile and allocate; each time a memory is too small, the largest map alive then leaves the chip.

    Raises
    ------
    CompileError
        Even the smallest tiles of a layer do not fit.
    """
    outside = _too_large(lowered, architecture)
    plans: Plans = {}
    while True:
        try:
            tiled = tile(lowered, architecture, outside, plans)
            check_tiled(tiled)
            return allocate(tiled, architecture)
        except NoRoomError as short:
            victim = _victim(lowered, outside, short)
            if victim is None:
                raise _refusal(lowered, architecture, short) from None
            outside |= {victim}


def _too_large(lowered: Lowered, architecture: Architecture) -> frozenset[str]:
    """Maps that fill more than half of a memory, and weights and constants that are too many to stay."""
    found = {
        name
        for name, buffer in lowered.buffers.items()
        if 2 * buffer.size > getattr(architecture, _SIZES[buffer.memory])
    }
    if panels_of(lowered) > architecture.weight_panels:
        found.add(WEIGHTS)
    if 2 * constants_of(lowered) > architecture.vectors:
        found.add(CONSTANTS)
    return frozenset(found)


def _victim(lowered: Lowered, outside: frozenset[str], short: NoRoomError) -> str | None:
    alive = [
        lowered.buffers[name]
        for name, (first, last) in lives(lowered).items()
        if first <= short.number <= last and name not in outside
    ]
    maps = [buffer for buffer in alive if buffer.memory == short.memory]
    if maps:
        return max(maps, key=lambda buffer: (buffer.size, buffer.name)).name
    if short.memory == "vector" and CONSTANTS not in outside:
        return CONSTANTS
    return None


def _refusal(lowered: Lowered, architecture: Architecture, short: NoRoomError) -> CompileError:
    layer = lowered.operations[short.number].layer
    if short.memory not in _SIZES:
        return CompileError(f"Maps of {lowered.name} must fit a workspace of 2**28 bytes; {layer} does not")
    size = getattr(architecture, _SIZES[short.memory])
    unit = {"activation": "blocks", "vector": "vectors", "weight": "panels"}[short.memory]
    return CompileError(
        f"Layer {layer} must fit the {size} {unit} of {short.memory} memory of {architecture.name}, "
        f"not need {short.needed}"
    )
