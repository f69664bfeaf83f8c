"""Waiting for what another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def look_until(
    look: Callable[[], T],
    is_over: Callable[[T], bool],
    timeout: float | None,
    on_update: Callable[[T], None] | None,
    poll: float,
) -> T:
    """Look every `poll` seconds until it is over, at most `timeout` seconds; return what was seen last.

    `on_update` is called at once and at every look.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        seen = look()
        if on_update is not None:
            on_update(seen)
        if is_over(seen) or (deadline is not None and time.monotonic() >= deadline):
            return seen
        time.sleep(poll)
