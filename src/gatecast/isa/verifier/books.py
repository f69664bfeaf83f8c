"""Who wrote and read what, and in which order. See docs/spec/isa.md §8, rules 6 and 7.

Each memory has a book: arrays of one item an address, which hold the last instruction that wrote it, the last
one of each unit that read it, and a tag of what was written. Instructions before those need no place: what
was ordered before the last writer is ordered before all that is ordered after that writer.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ...errors import ProgramError
from ...numerics import MAX_SUM_BLOCKS, SCALE_LARGEST, SCALE_SMALLEST
from ..fields import UNITS
from ..footprint import ACTIVATION, VECTOR, WEIGHT, Access, accesses, sum_steps
from ..instructions import Instruction
from ..ports import Port
from ..program import Program
from .contents import constant_vectors, within
from .report import broken
from .tokens import Schedule
from .touches import PARTIAL, Touch, exponent_tag, external_touches, touch, value_tags

_READERS = {
    ACTIVATION: ("matrix", "vector", "store"),
    WEIGHT: ("matrix",),
    VECTOR: ("matrix", "vector", "store"),
    "workspace": ("load",),
    "outputs": (),
}
_ITEMS = {ACTIVATION: "block", WEIGHT: "panel", VECTOR: "vector"}
_SAME_ALLOWED = ("residual", "a", "b", "partials")


class Book:
    """Last writer, last readers and tags of one memory; instructions count from 1, 0 is none."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.writer = np.zeros(size, np.int32)
        self.readers = {UNITS.index(unit): np.zeros(size, np.int32) for unit in _READERS[name]}
        self.tag = np.zeros(size, np.uint16)

    def place(self, part: Touch, bad: npt.NDArray[np.bool_]) -> str:
        """Name of the first address of a touch where `bad` is true."""
        address = int(part.get(np.arange(self.size))[bad][0])
        if self.name in _ITEMS:
            return f"{_ITEMS[self.name]} {address} of {self.name} memory"
        return f"byte {address} of section {self.name}"


class Books:
    """Books of all memories while the text is read once."""

    def __init__(self, program: Program, schedule: Schedule, chip: Sequence[Sequence[Access]]) -> None:
        self.program = program
        self.schedule = schedule
        self.unit_of = np.concatenate([np.zeros(1, np.int8), schedule.unit])
        sizes = dict.fromkeys((ACTIVATION, WEIGHT, VECTOR), 0)
        for access in (access for found in chip for access in found):
            sizes[access.memory] = max(sizes[access.memory], access.last + 1)
        sizes["workspace"], sizes["outputs"] = program.workspace_bytes, program.outputs_bytes
        self.books = {name: Book(name, size) for name, size in sizes.items()}
        self.inputs = _port_tags(program.inputs, program.inputs_bytes, "Inputs")
        self.outputs = _port_tags(program.outputs, program.outputs_bytes, "Outputs")
        self.weights = np.frombuffer(program.weights, np.uint8)
        # Of each vector: a constant's word in the weights, or the number of blocks in a partial sum.
        self.detail = np.zeros(sizes[VECTOR], np.int64)

    def take(self, number: int, chip: Sequence[Access]) -> None:
        """Check one instruction against the books, then enter it."""
        instruction = self.program.text[number]
        same = _same_place(instruction, chip)
        reads = [(touch(instruction, a), a in same) for a in chip if not a.writes]
        writes = [touch(instruction, a) for a in chip if a.writes]
        if instruction.name == "load":
            reads += [(t, False) for t in external_touches(instruction)]
        if instruction.name == "store":
            writes += list(external_touches(instruction))
        for part, _ in reads:
            self._check_read(number, part)
        for part in writes:
            self._check_write(number, part)
        self._check_vectors(number, instruction, [part for part, _ in reads])
        self._enter(number, reads, writes)
        self._enter_vectors(number, instruction, writes)

    def _check_read(self, number: int, part: Touch) -> None:
        if part.memory == "weights":
            return  # checked by `contents`
        if part.memory == "inputs":
            self._check_tag(number, part, self.inputs, part.get(self.inputs) != part.tag)
            return
        book = self.books[part.memory]
        writer = part.get(book.writer)
        if (missing := writer == 0).any():
            self._fail(number, part, f"must not read {book.place(part, missing)}, which was not written")
        self._check_order(number, part, writer, "writes")
        if np.ndim(part.tag) or part.tag:
            self._check_tag(number, part, book.tag, part.get(book.tag) != part.tag)

    def _check_tag(
        self, number: int, part: Touch, tags: npt.NDArray[np.uint16], bad: npt.NDArray[np.bool_]
    ) -> None:
        if bad.any():
            address = int(part.get(np.arange(len(tags)))[bad][0])
            what = "what it is read as" if part.memory not in ("inputs", "outputs") else "a block of a port"
            self._fail(
                number, part, f"must be {what}; address {address} of {part.memory} holds something else"
            )

    def _check_write(self, number: int, part: Touch) -> None:
        book = self.books[part.memory]
        writer = part.get(book.writer)
        if (
            number >= self.program.prologue
            and (kept := (writer > 0) & (writer <= self.program.prologue)).any()
        ):
            self._fail(number, part, f"must leave {book.place(part, kept)}, which the prologue wrote")
        self._check_order(number, part, writer, "writes")
        for readers in book.readers.values():
            self._check_order(number, part, part.get(readers), "reads")
        if part.memory == "outputs":
            if (again := writer > 0).any():
                self._fail(number, part, f"must store {book.place(part, again)} once, not again")
            self._check_tag(number, part, self.outputs, part.get(self.outputs) != part.tag)

    def _check_order(self, number: int, part: Touch, earlier: npt.NDArray[np.int32], verb: str) -> None:
        late = earlier > self.schedule.written[number][self.unit_of[earlier]]
        if late.any():
            other = int(earlier[late][0]) - 1
            place = self.books[part.memory].place(part, late)
            unit = UNITS[self.schedule.unit[other]]
            self._fail(
                number,
                part,
                f"must be ordered after instruction {other} ({self.program.text[other].name}), which {verb} "
                f"{place}: no wait on {unit} does it",
            )

    def _check_vectors(self, number: int, instruction: Instruction, reads: Iterable[Touch]) -> None:
        for part in reads:
            if part.field == "scale":
                places = np.unique(part.get(self.detail))
                for offset in places * 4:
                    if not within(
                        constant_vectors(self.weights, int(offset), 1), SCALE_SMALLEST, SCALE_LARGEST
                    ):
                        self._fail(
                            number, part, "must hold values of 0 or 2**-16 to 2**8 in magnitude; one is not"
                        )
            elif part.field == "partials":
                blocks = int(part.get(self.detail).max()) + sum_steps(instruction)
                if blocks > MAX_SUM_BLOCKS:
                    self._fail(
                        number,
                        part,
                        f"must be part of a sum of at most {MAX_SUM_BLOCKS} blocks, not {blocks}",
                    )

    def _enter(self, number: int, reads: Iterable[tuple[Touch, bool]], writes: Sequence[Touch]) -> None:
        mark, unit = number + 1, int(self.schedule.unit[number])
        chip = [(part, same) for part, same in reads if part.memory in self.books]
        for part, same in chip:
            if not same:
                part.set(self.books[part.memory].readers[unit], mark)
        for part in writes:
            self._check_itself(number, part, unit)
        for part, same in chip:
            if same:
                part.set(self.books[part.memory].readers[unit], mark)
        for part in writes:
            part.set(self.books[part.memory].writer, mark)
            part.set(self.books[part.memory].tag, part.tag)

    def _check_itself(self, number: int, part: Touch, unit: int) -> None:
        book = self.books[part.memory]
        if unit in book.readers:
            own = part.get(book.readers[unit]) == number + 1
            if own.any():
                self._fail(number, part, f"must not meet what is read: {book.place(part, own)}")
        order = part.get(book.writer)
        count = np.arange(order.size, dtype=np.int32).reshape(order.shape)
        part.set(book.writer, count)
        if (twice := part.get(book.writer) != count).any():
            self._fail(number, part, f"must write each place once, not {book.place(part, twice)} again")

    def _enter_vectors(self, number: int, instruction: Instruction, writes: Iterable[Touch]) -> None:
        for part in writes:
            if part.memory != VECTOR:
                continue
            if instruction.name == "constants":
                part.set(self.detail, instruction.offset // 4 + 32 * np.arange(instruction.count))
            elif part.tag == PARTIAL:
                before = part.get(self.detail) if instruction.resume else 0
                part.set(self.detail, before + sum_steps(instruction))

    def finish(self) -> None:
        """Check that every block of the outputs was stored."""
        missing = np.flatnonzero((self.outputs != 0) & (self.books["outputs"].writer == 0))
        if len(missing):
            at = int(missing[0])
            raise ProgramError(f"Outputs must be stored whole; byte {at} of section outputs is not")

    def _fail(self, number: int, part: Touch, problem: str) -> None:
        raise broken(self.program, number, part.field, problem)


def _same_place(instruction: Instruction, chip: Sequence[Access]) -> list[Access]:
    """Reads of exactly what is written, place by place, which are allowed."""
    if instruction.name == "map" and (instruction.repeat_y, instruction.repeat_x) != (1, 1):
        chip = [access for access in chip if access.field != "a"]
    written = [(a.memory, a.start, a.shape, a.steps, a.format) for a in chip if a.writes]
    return [
        a
        for a in chip
        if not a.writes
        and a.field in _SAME_ALLOWED
        and (a.memory, a.start, a.shape, a.steps, a.format) in written
    ]


def _port_tags(ports: Iterable[Port], size: int, what: str) -> npt.NDArray[np.uint16]:
    """Tags of a section's bytes; 0 where no port has a block."""
    tags = np.zeros(size, np.uint16)
    for port in ports:
        parts = [(port.map.values_of(tags), value_tags(port.map))]
        if port.map.encoded:
            parts.append((port.map.exponents_of(tags), np.uint16(exponent_tag(port.map))))  # type: ignore[arg-type]
        for part, tag in parts:
            if part.any():
                raise ProgramError(f"{what} must not overlap; {port.name!r} does")
            part[...] = tag
    return tags


def check_data(program: Program, schedule: Schedule) -> None:
    """Check order, and that all that is read was written; then that the outputs are whole."""
    chip = [accesses(instruction, program.architecture) for instruction in program.text]
    books = Books(program, schedule, chip)
    for number, found in enumerate(chip):
        books.take(number, found)
    books.finish()
