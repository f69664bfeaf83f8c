"""Cycles of a whole Program on the NPU: its units side by side, their tokens, and the memory that they share.

Each instruction costs what `cycles` says. Here units take instructions as the hardware does: fetched in text
order, queued, started when their tokens are there; and beats of external memory go to the most urgent user.
Text order and timing alone decide, never data, so one run says all.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from gatecast.errors import CompileError
from gatecast.isa import UNITS, Architecture, Instruction, Program, unit_of

from .cycles import BEAT_BYTES, Cost, cost

MEMORY_LATENCY = 16
"""Cycles from a read of external memory to its answer, unless told otherwise."""

_HANDED = {"load": 3, "weights": 2, "matrix": 6, "vector": 5, "store": 3}
"""Cycles in which an instruction is handed to its unit, and again those in which the unit takes it."""

_QUEUED = 16
"""Cycles of handing that a unit's queue holds, beside the instruction that the unit has taken."""

_FETCH_BEATS = 6  # that hold the words an instruction may use
_TRIP = 1  # cycles of a request on its way to memory
_CHECKED = 2  # from an instruction's last word to its offer to a unit
_PRIORITY = ("fetch", "store", "load", "weights")


@dataclass(frozen=True)
class Span:
    """When an instruction ran: cycles counted from the start of the text."""

    start: float
    end: float

    @property
    def cycles(self) -> int:
        """How long."""
        return round(self.end - self.start)


@dataclass(frozen=True)
class Estimate:
    """What a Program takes.

    Parameters
    ----------
    cycles : int
        From start to done of the body.
    spans : tuple of Span
        Of each instruction of the body but `end`.
    """

    cycles: int
    spans: tuple[Span, ...]


@dataclass
class _Work:
    """What an actor does next: wait for so many cycles, or move so many beats; then the rest."""

    phases: deque[tuple[str, float, float]] = field(default_factory=deque)  # kind, amount, pace

    @property
    def kind(self) -> str:
        return self.phases[0][0] if self.phases else ""


def estimate(program: Program, latency: int = MEMORY_LATENCY) -> Estimate:
    """Run the body of a Program in the model.

    Parameters
    ----------
    latency : int
        Cycles from a read of external memory to its answer.

    Raises
    ------
    CompileError
        The Program's Architecture says nothing of speed, as `software` does, or a token never comes.
    """
    sizes = program.architecture
    if not (sizes.lanes and sizes.epilogue_values and sizes.vector_values):
        raise CompileError(
            f"Architecture must say how many lanes it has to estimate cycles, not be {sizes.name}",
            hint="Compile for an NPU, such as `--target ecp5_85f`.",
        )
    return _Model(sizes, tuple(program.body), latency).run()


def beats_a_cycle(sizes: Architecture) -> float:
    """Beats of external memory a cycle, at most 1."""
    if not (sizes.clock_mhz and sizes.memory_gbs):
        return 1.0
    return min(1.0, sizes.memory_gbs * 1e3 / sizes.clock_mhz / BEAT_BYTES)


class _Model:
    def __init__(self, sizes: Architecture, text: tuple[Instruction, ...], latency: int) -> None:
        self.sizes, self.text, self.latency = sizes, text, latency
        self.rate = beats_a_cycle(sizes)
        self.now = 0.0
        self.fetched = 0
        self.queues: dict[str, deque[int]] = {unit: deque() for unit in UNITS}
        self.running: dict[str, int | None] = dict.fromkeys(UNITS)
        self.work = {name: _Work() for name in ("fetch", *UNITS)}
        self.tokens: Counter[tuple[str, str]] = Counter()
        self.spans: dict[int, Span] = {}
        self.started: dict[int, float] = {}

    def run(self) -> Estimate:
        self.work["fetch"].phases.extend(self._fetching())
        while True:
            while self._dispatch():
                pass
            if self.fetched == len(self.text) and len(self.spans) == len(self.text) - 1:
                break
            self._advance()
        spans = tuple(self.spans[number] for number in range(len(self.text) - 1))
        return Estimate(round(self.now), spans)

    def _dispatch(self) -> bool:
        """Do all that takes no time; returns whether anything was done."""
        done = self._hand()
        for unit in UNITS:
            if self.running[unit] is not None:
                done |= self._finish(unit)
            elif self.queues[unit] and not self.work[unit].phases:
                done |= self._start(unit)
        return done

    def _hand(self) -> bool:
        """Offer the fetched instruction to its unit's queue."""
        if self.work["fetch"].phases or self.fetched == len(self.text):
            return False
        instruction = self.text[self.fetched]
        if instruction.name != "end":
            unit = unit_of(instruction)
            if len(self.queues[unit]) >= 1 + _QUEUED // _HANDED[unit]:
                return False
            if not self.queues[unit] and self.running[unit] is None and not self.work[unit].phases:
                self.work[unit].phases.append(("wait", _HANDED[unit] + 1, 0))
            self.queues[unit].append(self.fetched)
        self.fetched += 1
        if self.fetched < len(self.text):
            self.work["fetch"].phases.extend(self._fetching())
        return True

    def _start(self, unit: str) -> bool:
        number = self.queues[unit][0]
        instruction = self.text[number]
        waited = [other for other in _names(instruction.wait) if other != unit]
        if any(not self.tokens[other, unit] for other in waited):
            return False
        if unit == "vector" and instruction.name != "sync" and self.running["matrix"] is not None:
            return False  # the matrix unit has the epilogue
        self.tokens.subtract((other, unit) for other in waited)
        self.queues[unit].popleft()
        self.running[unit], self.started[number] = number, self.now + 2
        self.work[unit].phases.extend(self._phases(cost(instruction, self.sizes, self._granted())))
        return True

    def _granted(self) -> float:
        """Cycles from the start of an instruction that is taken now until the vector unit is at its end."""
        running = self.running["vector"] is not None
        left = sum(amount for _, amount, _ in self.work["vector"].phases) if running else 0.0
        return max(0.0, left - 1)

    def _finish(self, unit: str) -> bool:
        number = self.running[unit]
        if number is None or self.work[unit].phases:
            return False
        self.spans[number] = Span(self.started[number], self.now - 1)
        self.tokens.update((unit, other) for other in _names(self.text[number].signal))
        self.running[unit] = None
        self.work[unit].phases.append(("wait", _HANDED[unit], 0))  # it takes the next one
        return True

    def _phases(self, found: Cost) -> Iterator[tuple[str, float, float]]:
        """Two cycles to start, the work, one cycle until tokens that it gives are seen."""
        yield "wait", found.before + 2, 0
        if found.beats:
            yield "beats", found.beats, found.pace
        yield "wait", found.after + (self.latency + _TRIP if found.reads else 0) + 1, 0

    def _fetching(self) -> Iterator[tuple[str, float, float]]:
        """The last instruction's offer and a look at the count; the words; checks."""
        last = self.text[self.fetched - 1] if self.fetched else None
        yield "wait", 1 if last is None else 1 + _HANDED[unit_of(last)], 0
        yield "beats", _FETCH_BEATS, 1
        yield "wait", self.latency + _TRIP + _CHECKED, 0

    def _advance(self) -> None:
        """Go on to the next end of a phase."""
        speeds = self._speeds()
        if not any(speeds.values()):
            raise CompileError("A Program must never wait for tokens that do not come")
        step = min(
            (work.phases[0][1] / speeds[name] for name, work in self.work.items() if speeds[name]),
            default=inf,
        )
        self.now += step
        for name, work in self.work.items():
            if speeds[name]:
                kind, amount, pace = work.phases[0]
                left = amount - step * speeds[name]
                if left > 1e-9:
                    work.phases[0] = (kind, left, pace)
                else:
                    work.phases.popleft()

    def _speeds(self) -> dict[str, float]:
        """Cycles, or beats, that each actor gets done in a cycle."""
        speeds = {name: 1.0 if work.kind == "wait" else 0.0 for name, work in self.work.items()}
        left = self.rate
        for name in _PRIORITY:
            if self.work[name].kind == "beats":
                speeds[name] = min(left, 1 / self.work[name].phases[0][2])
                left -= speeds[name]
        return speeds


def _names(mask: int) -> list[str]:
    return [unit for bit, unit in enumerate(UNITS) if mask >> bit & 1]
