"""The log of an operation, which is what its worker prints."""

import sys
from datetime import UTC, datetime


def say(message: str) -> None:
    """Write a line with the time."""
    sys.stdout.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {message}\n")
    sys.stdout.flush()
