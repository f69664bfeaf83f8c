"""The process of one operation: ``python -m gatecast.workspace.worker FOLDER ID``; its output is the log.

A kind of operation is a function ``run(workspace, operation, request)`` that returns the id of the result.
It tells what it does by `log.say`, and raises an error of Gatecast if it cannot do it. If it makes its result
in a transaction, it calls `operations.succeed` in the same one, so that both happen or neither.
"""

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeAlias

from gatecast import __version__
from gatecast.errors import GatecastError

from .log import say
from .operations import Operation, State, succeed
from .workspace import Workspace

Run: TypeAlias = Callable[[Workspace, Operation, Mapping[str, Any]], str]

KINDS = {
    "convert": ("gatecast.workspace.converting", "run"),
    "image": ("gatecast.workspace.building", "run"),
}
"""Module and function of each kind."""


def main(arguments: Sequence[str]) -> int:
    """Run an operation; the exit status is 0 if it succeeded."""
    folder, identity = arguments
    try:
        workspace = Workspace.open(folder)
        operation = workspace.operations.claim(identity)
    except GatecastError as error:
        say(str(error))
        return 1
    say(f"Gatecast {__version__}, workspace {workspace.name}: {operation.kind} {operation.subject}")
    for key, value in operation.request.items():
        say(f"  {key} = {value}")
    try:
        _finish(workspace, operation, _function(operation.kind)(workspace, operation, operation.request))
    except GatecastError as error:
        return _failed(workspace, operation, str(error), error.hint)
    except MemoryError:
        return _failed(workspace, operation, "Memory is exhausted", "Use a machine with more memory.")
    except OSError as error:
        what = f"{error.filename or 'A file'}: {error.strerror or error}"
        return _failed(
            workspace, operation, what, "Check the path, its permissions, and the room on its disk."
        )
    except Exception as error:
        sys.stdout.write(traceback.format_exc())
        what = f"This is a bug in Gatecast: {type(error).__name__}: {error}"
        return _failed(workspace, operation, what, "Report the log of this operation.")
    return 0


def _function(kind: str) -> Run:
    module, name = KINDS[kind]
    function: Run = getattr(import_module(module), name)
    return function


def _finish(workspace: Workspace, operation: Operation, result: str) -> None:
    with workspace.store.transaction() as database:
        succeed(database, operation.id, result)
    say(f"{State.SUCCEEDED}: {result}")


def _failed(workspace: Workspace, operation: Operation, message: str, hint: str) -> int:
    say(f"{State.FAILED}: {message}")
    hint = " ".join(hint.split())
    say(f"hint: {hint}")
    workspace.operations.fail(operation.id, f"{message}\n{hint}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
