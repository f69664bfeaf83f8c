"""Show an operation until it has ended."""

import re

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gatecast.errors import WorkspaceError
from gatecast.workspace import Operation, State, Workspace

from .terminal import say

STEP = re.compile(r"^\S+ \S+ \[(\d+)/(\d+)\] (.*)$", re.MULTILINE)
"""A line of a log that says how far the operation is: ``[2/5] Reading``, behind the time."""

TAIL = 20
"""Lines of the log that are shown when it went wrong."""


def follow(workspace: Workspace, operation: Operation, what: str, poll: float = 0.1) -> Operation:
    """Wait for an operation that works on `what`, a bar on a terminal, a line for each step elsewhere.

    Raises
    ------
    WorkspaceError
        It failed or was cancelled; the end of its log has been shown.
    """
    view = _Bar(what) if Console(stderr=True).is_terminal else _Lines(what)

    def look(now: Operation) -> None:
        view.show(STEP.findall(workspace.operations.read_log(now)))

    try:
        with view:
            operation = workspace.operations.wait(operation, on_update=look, poll=poll)
    except KeyboardInterrupt:
        say(f"{what} goes on: `gatecast operation wait {operation.id}` waits, `operation cancel` ends it")
        raise
    if operation.state is not State.SUCCEEDED:
        raise failure(workspace, operation, what)
    return operation


def failure(workspace: Workspace, operation: Operation, what: str) -> WorkspaceError:
    """Show the end of the log, and return the error to raise."""
    for line in workspace.operations.read_log(operation).splitlines()[-TAIL:]:
        say(f"  {line}")
    message, _, hint = operation.error.rpartition("\n")
    return WorkspaceError(
        f"{what} {operation.state.lower()}: {message or hint}", hint=f"{hint} The whole log: {operation.log}"
    )


class _Lines:
    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = 0

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, steps: list[tuple[str, str, str]]) -> None:
        for number, total, message in steps[self._shown :]:
            say(f"{self._what} [{number}/{total}] {message}")
        self._shown = len(steps)


class _Bar:
    def __init__(self, what: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(click.unstyle(what), total=None)
        self._what = what

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, steps: list[tuple[str, str, str]]) -> None:
        if steps:
            number, total, message = steps[-1]
            text = f"{self._what}: {message}".replace("[", r"\[")
            self._progress.update(self._task, description=text, total=int(total), completed=int(number) - 1)
