"""Make the software device run all that it can by tiles, not only what is faster so."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import pytest

software = pytest.importorskip("gatecast.devices.software", reason="needs the extension gatecast._native")

TILED = "avx512amx"
"""The instruction set that has tiles."""


@contextmanager
def all_tiles() -> Iterator[None]:
    """While this lasts, Programs are loaded so."""
    extension = software._native
    with patch.object(extension, "Program", partial(extension.Program, all_tiles=True)):
        yield
