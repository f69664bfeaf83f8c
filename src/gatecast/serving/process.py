"""What a process that serves sets up for itself: its signals, and the allocator."""

import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Iterator

# mallopt parameters of glibc: keep large buffers in the heap instead of mapping and faulting them in anew.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


@contextlib.contextmanager
def on_signals() -> Iterator[socket.socket]:
    """Give a socket from which a byte can be read for each SIGTERM or SIGINT.

    A signal that comes just before a thread begins to wait for a lock does not wake it, and an Event that a
    handler sets can wait for itself. The interpreter writes to this socket at once, whatever runs.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        before = [signal.signal(number, lambda *_: None) for number in numbers]
        try:
            yield reader
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)


def tune_malloc() -> None:
    """Spare each large request the page faults of a fresh mapping; only glibc has the call."""
    if sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            for parameter, value in (
                (_M_MMAP_THRESHOLD, 1 << 28),
                (_M_TRIM_THRESHOLD, 1 << 29),
                (_M_TOP_PAD, 1 << 24),
                (_M_ARENA_MAX, 2),  # one for each of many threads keeps what a request took, many times
            ):
                mallopt(parameter, value)
