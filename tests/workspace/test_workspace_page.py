"""docs/spec/workspace.md names what there is."""

import re
from pathlib import Path

from gatecast.workspace import State, conversions, labels, operations, schema, sources

PAGE = (Path(__file__).parents[2] / "docs/spec/workspace.md").read_text()


def test_every_table_is_on_the_page():
    tables = re.findall(r"CREATE TABLE (\w+)", "\n".join(schema.TABLES))
    section = PAGE.partition("## 2. Tables")[2].partition("## 3.")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == tables
    assert f"Version {schema.VERSION} of the tables" in PAGE


def test_every_state_is_on_the_page():
    section = PAGE.partition("## 5. Operations")[2].partition("## 6.")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [state.value for state in State]
    assert operations.WORKER in section
    assert f"(`{conversions.KIND}`)" in section


def test_limits_are_on_the_page():
    assert f"{sources.MOST_FILES:,}".replace(",", " ") in PAGE
    assert f"{sources.LARGEST >> 30} GiB" in PAGE
    for limit in (labels.LONGEST_NAME, labels.MOST_LABELS, labels.LONGEST_KEY, labels.LONGEST_VALUE):
        assert str(limit) in PAGE
