"""What commands print: data on stdout as tables or JSON, messages and progress on stderr."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table

WIDE = 200
"""Columns of a table that does not go to a terminal, so that nothing is cut."""


def say(message: str) -> None:
    """Print a message for people."""
    click.echo(message, err=True)


def print_text(text: str) -> None:
    """Print data."""
    click.echo(text)


def print_json(value: Any) -> None:
    """Print one JSON document on one line; NaN and infinities are written as JavaScript writes them."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Print rows under their columns; a column is set to the right if all its values are numbers.

    Floats should be formatted by the caller. A column's name starting with ``>`` is set to the right.
    """
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDE, highlight=False)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n"))


def count(number: int) -> str:
    """Number with a thin structure: ``1,234,567``."""
    return f"{number:,}"


def size(number: int) -> str:
    """Bytes in the largest unit that keeps a digit before the point."""
    value, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"


def milliseconds(microseconds: float) -> str:
    """Time in ms with a sensible number of digits."""
    value = microseconds / 1000
    return f"{value:.0f} ms" if value >= 100 else f"{value:.2f} ms"


@contextmanager
def working(message: str) -> Iterator[None]:
    """Show that something takes time: a spinner on a terminal, one line elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        say(message)
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(message)
        yield
    say(message)


@contextmanager
def downloading() -> Iterator[Callable[[int, int | None], None]]:
    """Give a function that shows bytes so far, and of the whole file where that is known.

    A bar on a terminal, one line elsewhere; nothing before the function is first called.
    """
    columns = (TextColumn("Downloading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)

    def show(done: int, total: int | None) -> None:
        if not progress.tasks:
            progress.add_task("", total=total)
            if progress.console.is_terminal:
                progress.start()
            else:
                say(f"Downloading {size(total) if total else 'a file'}")
        progress.update(progress.tasks[0].id, completed=done, total=total)

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()


def _cell(value: object) -> str:
    return str(value).replace("[", r"\[")
