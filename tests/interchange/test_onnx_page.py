"""docs/spec/onnx.md says what the code does."""

import re
from pathlib import Path

from gatecast import graph as op
from gatecast.interchange import supported_operators

PAGE = (Path(__file__).parents[2] / "docs" / "spec" / "onnx.md").read_text()


def section(number):
    return re.search(rf"^## {number}\. .*?(?=^## |\Z)", PAGE, re.M | re.S).group()


def test_the_page_lists_the_operators_that_are_read():
    listed = section(5).split("Operators:")[1].split("and, on constants only")[0]
    assert re.findall(r"`(\w+)`", listed) == supported_operators()


def test_the_page_has_a_row_for_each_kind_of_layer():
    rows = [line.split("|")[1] for line in section(4).splitlines() if line.startswith("| `")]
    kinds = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert kinds == {kind.__name__ for kind in op.Layer.__subclasses__()}
