"""The progress that the old API prints: a state, a dot for each look, a new line for a new state."""

from collections.abc import Callable
from typing import Any

POLL_S = 0.5
"""Between two looks. The old API took 5 s; here nothing is far away."""


def printed(state_of: Callable[[Any], str]) -> Callable[[Any], None]:
    """Return what to call at each look: it prints the state when it is new, else a dot."""
    last: list[str] = []

    def look(record: Any) -> None:
        state = state_of(record)
        if not last:
            print(state, end="", flush=True)
        elif state != last[-1]:
            print(f"\n{state}", end="", flush=True)
        else:
            print(".", end="", flush=True)
        last[:] = [state]

    return look
