"""Waits and signals, and the order that they make certain. See docs/spec/isa.md §5 and §8, rule 5.

For each instruction: how many instructions of each unit have certainly written when it starts. That follows
from its unit's predecessor, its drain, and the tokens that it takes; a token carries what held at its signal.
"""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..fields import UNITS
from ..instructions import unit_of
from ..program import Program
from .report import broken

MAX_TOKENS = 255
"""Largest value of a counter."""


@dataclass(frozen=True)
class Schedule:
    """Order that waits and signals make certain.

    Parameters
    ----------
    unit : int8 array
        Unit of each instruction; 0 for `end`, which touches nothing.
    written : int32 array ``[instructions, units]``
        Position after the last instruction of each unit that has certainly written when this one starts.
    """

    unit: npt.NDArray[np.int8]
    written: npt.NDArray[np.int32]


class _Walk:
    """Counters and clocks while the text is read once."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.clock = [[0] * len(UNITS) for _ in UNITS]
        self.position: list[list[int]] = [[] for _ in UNITS]
        self.tokens: dict[tuple[int, int], deque[list[int]]] = {}
        self.signals: dict[tuple[int, int], int] = {}
        self.waits: dict[tuple[int, int], list[int]] = {}
        for pair in ((a, b) for a in range(len(UNITS)) for b in range(len(UNITS))):
            self.tokens[pair], self.signals[pair], self.waits[pair] = deque(), 0, []

    def step(self, number: int, unit: int) -> list[int]:
        """Take one instruction; counts of each unit that have written when it starts."""
        instruction = self.program.text[number]
        started = list(self.clock[unit])
        for other in range(len(UNITS)):
            if instruction.wait >> other & 1:
                self._wait(number, unit, other, started)
        self.position[unit].append(number)
        self.clock[unit] = started
        if instruction.signal:
            done = list(started)
            done[unit] = len(self.position[unit])
            for other in range(len(UNITS)):
                if instruction.signal >> other & 1:
                    self._signal(number, unit, other, done)
        return started

    def _wait(self, number: int, unit: int, other: int, started: list[int]) -> None:
        if other == unit:
            started[unit] = len(self.position[unit])  # drain
            return
        if not self.tokens[other, unit]:
            raise broken(
                self.program, number, "wait", f"must not be for {UNITS[other]}, which has not signalled"
            )
        taken = self.tokens[other, unit].popleft()
        self.waits[other, unit].append(len(self.position[unit]))
        started[:] = map(max, started, taken)

    def _signal(self, number: int, unit: int, other: int, done: list[int]) -> None:
        if other == unit:
            raise broken(self.program, number, "signal", f"must not be to {UNITS[unit]}, its own unit")
        self.tokens[unit, other].append(done)
        self.signals[unit, other] += 1
        taken = bisect_left(self.waits[unit, other], done[other])
        if self.signals[unit, other] - taken > MAX_TOKENS:
            problem = f"must not let the counter to {UNITS[other]} pass {MAX_TOKENS}"
            raise broken(self.program, number, "signal", problem)

    def end(self, number: int) -> None:
        """All units meet; every counter must be 0."""
        for (unit, other), left in self.tokens.items():
            if left:
                problem = (
                    f"must find every signal taken; {len(left)} from {UNITS[unit]} to {UNITS[other]} are not"
                )
                raise broken(self.program, number, "", problem)
        self.clock = [[len(position) for position in self.position] for _ in UNITS]


def schedule(program: Program) -> Schedule:
    """Check the tokens of a Program and return the order that they make certain."""
    walk, count = _Walk(program), len(program.text)
    units, written = np.zeros(count, np.int8), np.zeros((count, len(UNITS)), np.int32)
    for number, instruction in enumerate(program.text):
        if instruction.name == "end":
            walk.end(number)
            continue
        units[number] = unit = UNITS.index(unit_of(instruction))
        started = walk.step(number, unit)
        written[number] = [
            position[done - 1] + 1 if done else 0
            for position, done in zip(walk.position, started, strict=True)
        ]
    return Schedule(units, written)
