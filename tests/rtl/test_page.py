"""docs/spec/npu.md holds the registers as they are."""

from pathlib import Path

from gatecast.isa import UNITS
from gatecast.rtl.registers import register_tables

PAGE = Path(__file__).parents[2] / "docs/spec/npu.md"
BEGIN, END = "<!-- generated: registers -->", "<!-- end of generated: registers -->"


def test_the_tables_of_the_page_are_fresh():
    """If not, put the text of `register_tables` between the two marks."""
    _, _, rest = PAGE.read_text().partition(BEGIN)
    assert rest.partition(END)[0].strip() == register_tables()


def test_every_port_is_on_the_page():
    page = PAGE.read_text().replace("<unit>", UNITS[0])
    names = ("bus_dat_r", "memory_mask", "response_ready", "progress", "done", "trace_load_retired")
    assert all(f"`{name}`" in page for name in names)
