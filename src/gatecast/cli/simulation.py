"""What a device that simulates says while it works: messages, and the cycles of each run as a bar."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gatecast.devices import Progress as ProgressFunction
from gatecast.isa import Program

from .terminal import say


@contextmanager
def simulation() -> Iterator[ProgressFunction | None]:
    """Print messages of devices on stderr, and give a function that shows cycles, with the time left.

    Where stderr is no terminal there is no such function.
    """
    logger, handler = logging.getLogger("gatecast"), _Saying()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with cycle_bars() as progress:
            yield progress
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Saying(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


@contextmanager
def cycle_bars() -> Iterator[ProgressFunction | None]:
    """Give a function that shows a bar for each Program, as long as the cycles that it should take."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} cycles"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    bars: dict[int, TaskID] = {}
    with Progress(*columns, console=console, transient=True) as shown:

        def progress(program: Program, cycles: int) -> None:
            if id(program) not in bars:
                bars[id(program)] = shown.add_task("Simulating", total=_expected(program))
            shown.update(bars[id(program)], completed=cycles)

        yield progress


def _expected(program: Program) -> int:
    """Cycles by the compiler's model, which is loaded only now: running Programs does not need it."""
    model: Any = import_module("gatecast.compiler.estimate")
    cycles: int = model.estimate(program).cycles
    return cycles
