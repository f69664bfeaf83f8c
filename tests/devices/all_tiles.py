"""Make the software device run all that it can by tiles, not only what is faster so."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import pytest

from gatecast.devices import open_device

software = pytest.importorskip("gatecast.devices.software", reason="needs the extension gatecast._native")

TILED = "avx512amx"
"""The instruction set that has tiles."""


@contextmanager
def all_tiles() -> Iterator[None]:
    """While this lasts, Programs are loaded so."""
    extension = software._native
    with patch.object(extension, "Program", partial(extension.Program, all_tiles=True)):
        yield


def assert_equal_by_tiles(program, inputs, threads=(1, 2, 3)):
    """That each gives the reference's bytes; returns the loaded Programs of the extension."""
    expected = open_device("reference").load(program).run(inputs)
    programs = []
    for count in threads:
        with all_tiles():
            loaded = software.SoftwareDevice(count, TILED).load(program)
        assert loaded.run(inputs) == expected, count
        assert loaded.run(inputs) == expected, "a second run, on memory that holds the first"
        programs.append(loaded._native)
    return programs
