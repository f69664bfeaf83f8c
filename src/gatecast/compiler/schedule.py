"""Pass 5: waits and signals, so that units run at once and never too early.

For each instruction it is known how many instructions of each unit have certainly written when it starts:
what its predecessor in the unit knew, what a drain adds, and what the tokens that it takes carry. A token is
added only where an instruction touches what another unit must have finished with, and that is not known yet.

Ref: docs/spec/isa.md §5.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.isa import (
    UNITS,
    Architecture,
    ExternalMap,
    Instruction,
    Section,
    accesses,
    external_map,
    unit_of,
)

from .allocate import Allocated, Placed

MAX_TOKENS = 255
"""Largest value of a counter."""

_NAMES = {
    "activation": (("load", "matrix", "vector"), ("matrix", "vector", "store")),
    "weight": (("weights",), ("matrix",)),
    "vector": (("weights", "load", "matrix", "vector"), ("matrix", "vector", "store")),
    "workspace": (("store",), ("load",)),
}
"""For each memory, the units that write it and those that read it."""

Clock = list[int]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class _Touch:
    """What an instruction touches of one memory: a window of an array with one item an address."""

    memory: str
    writes: bool
    view: Any
    end: int

    def of(self, book: Ints) -> Ints:
        found: Ints = self.view(book)
        return found


def schedule(allocated: Allocated, architecture: Architecture) -> Allocated:
    """Return the same instructions with tokens, weights hoisted by one load; text order stays legal."""
    body = _hoisted(allocated.body, architecture)
    timed = _with_tokens(body, architecture)
    return replace(allocated, body=tuple(timed))


def _hoisted(body: Sequence[Placed], architecture: Architecture) -> list[Placed]:
    """Move each load of weights before the first use of those before it, if both fit the ring at once."""
    found: list[Placed] = []
    last: Instruction | None = None  # load of the weights in use
    first_use: int | None = None
    for placed in body:
        instruction = placed.instruction
        if instruction.name == "convolve" and first_use is None:
            first_use = len(found)
        if instruction.name != "weights":
            found.append(placed)
            continue
        place = len(found)
        if last is not None and first_use is not None:
            follows = instruction.address == (last.address + last.count) % architecture.weight_panels
            if follows and last.count + instruction.count <= architecture.weight_panels:
                place = first_use
        found.insert(place, placed)
        last, first_use = instruction, None
    return found


class _Books:
    """Last instruction of each unit, counted from 1, that wrote and read each address."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.written = {m: {u: np.zeros(sizes[m], np.int32) for u in _NAMES[m][0]} for m in _NAMES}
        self.read = {m: {u: np.zeros(sizes[m], np.int32) for u in _NAMES[m][1]} for m in _NAMES}

    def needed(self, touches: Sequence[_Touch]) -> Clock:
        """Instructions of each unit that must have written first."""
        clock = [0] * len(UNITS)
        for touch in touches:
            books = [self.written[touch.memory]]
            if touch.writes:
                books.append(self.read[touch.memory])
            for unit, book in ((unit, book) for found in books for unit, book in found.items()):
                index = UNITS.index(unit)
                clock[index] = max(clock[index], int(touch.of(book).max()))
        return clock

    def enter(self, unit: str, count: int, touches: Sequence[_Touch]) -> None:
        """Note an instruction, the `count`-th of its unit."""
        for touch in touches:
            book = self.written if touch.writes else self.read
            touch.of(book[touch.memory][unit])[...] = count


def _with_tokens(body: Sequence[Placed], architecture: Architecture) -> list[Placed]:
    touched = [_touches(placed.instruction, architecture) for placed in body]
    books = _Books(_sizes(touched))
    starts: list[list[Clock]] = [[] for _ in UNITS]  # what was known when each instruction started
    positions: list[list[int]] = [[] for _ in UNITS]
    waits, signals = [0] * len(body), [0] * len(body)
    for number, (placed, touches) in enumerate(zip(body, touched, strict=True)):
        unit = unit_of(placed.instruction)
        own = UNITS.index(unit)
        known = list(starts[own][-1]) if starts[own] else [0] * len(UNITS)
        needed = books.needed(touches)
        for other in _order(needed, known, starts, own):
            if needed[other] <= known[other]:
                continue
            waits[number] |= 1 << other
            if other == own:
                known[own] = len(starts[own])
                continue
            signaller = needed[other] - 1
            signals[positions[other][signaller]] |= 1 << own
            carried = list(starts[other][signaller])
            carried[other] = needed[other]
            known = list(map(max, known, carried))
        starts[own].append(known)
        positions[own].append(number)
        books.enter(unit, len(starts[own]), touches)
    if _overflows(body, starts, positions, waits, signals):
        waits, signals = _in_single_file(body)
    return [
        replace(placed, instruction=placed.instruction.replace(wait=wait, signal=signal))
        if wait or signal
        else placed
        for placed, wait, signal in zip(body, waits, signals, strict=True)
    ]


def _order(needed: Clock, known: Clock, starts: list[list[Clock]], own: int) -> list[int]:
    """Units to wait for: one whose token tells more about the others goes first, the own unit last."""

    def told(other: int) -> int:
        carried = starts[other][needed[other] - 1]
        return sum(n <= c for n, c in zip(needed, carried, strict=True))

    missing = [u for u in range(len(UNITS)) if needed[u] > known[u] and u != own]
    return [*sorted(missing, key=told, reverse=True), own]


def _touches(instruction: Instruction, architecture: Architecture) -> list[_Touch]:
    found = [
        _Touch(access.memory, access.writes, access.window, access.last + 1)
        for access in accesses(instruction, architecture)
    ]
    if instruction.has("row_pitch") and instruction.section == Section.WORKSPACE:
        found += _external(external_map(instruction), instruction.name == "store")
    return found


def _external(external: ExternalMap, writes: bool) -> Iterator[_Touch]:
    yield _Touch("workspace", writes, external.values_of, external.end)
    if external.encoded:
        yield _Touch("workspace", writes, external.exponents_of, external.end)


def _sizes(touched: Sequence[Sequence[_Touch]]) -> dict[str, int]:
    sizes = dict.fromkeys(_NAMES, 0)
    for touch in (touch for touches in touched for touch in touches):
        sizes[touch.memory] = max(sizes[touch.memory], touch.end)
    return sizes


def _overflows(
    body: Sequence[Placed],
    starts: list[list[Clock]],
    positions: list[list[int]],
    waits: list[int],
    signals: list[int],
) -> bool:
    """Whether a counter could pass its largest value if its producer ran as far ahead as it may."""
    for producer in range(len(UNITS)):
        for consumer in (unit for unit in range(len(UNITS)) if unit != producer):
            taken = np.cumsum([0, *(waits[at] >> producer & 1 for at in positions[consumer])])
            given = 0
            for at, clock in zip(positions[producer], starts[producer], strict=True):
                given += signals[at] >> consumer & 1
                if given - taken[clock[consumer]] > MAX_TOKENS:
                    return True
    return False


def _in_single_file(body: Sequence[Placed]) -> tuple[list[int], list[int]]:
    """Tokens that let each instruction start when the one before it has written."""
    waits, signals = [0] * len(body), [0] * len(body)
    for before, after in pairwise(range(len(body))):
        first, second = (UNITS.index(unit_of(body[at].instruction)) for at in (before, after))
        waits[after] |= 1 << first
        if first != second:
            signals[before] |= 1 << second
    return waits, signals
