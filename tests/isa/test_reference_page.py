import re
from pathlib import Path

from gatecast.isa import KINDS, assemble
from gatecast.isa.reference_page import refresh

PAGE = Path(__file__).parents[2] / "docs/spec/isa.md"


def test_the_generated_tables_of_the_page_are_fresh():
    page = PAGE.read_text()
    assert refresh(page) == page


def test_a_stale_table_is_made_anew():
    page = PAGE.read_text()
    assert refresh(page.replace("| `suspend` |", "| `pause` |")) == page


def test_every_field_of_every_kind_is_on_the_page():
    page = PAGE.read_text()
    for kind in KINDS:
        assert f"### `{kind.name}` (opcode {kind.opcode}" in page
        assert all(f"| `{field.name}` |" in page for field in kind.own)


def test_the_listing_of_the_page_is_the_example(example):
    listing = re.search(r"```\n(load .*?end)\n```", PAGE.read_text(), re.DOTALL).group(1)
    assert assemble(listing) == tuple(i.replace(layer=0) for i in example().text)
