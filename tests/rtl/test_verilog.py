"""The Verilog as a whole: its ports, what it refuses, and that it is the same each time."""

import re
from dataclasses import replace

import pytest

from gatecast.cosim import Simulators
from gatecast.cosim.build import cache_folder
from gatecast.errors import DeviceError, NotFoundError
from gatecast.isa import UNITS, architecture
from gatecast.rtl import check_limits, write_verilog

TINY = architecture("tiny")


@pytest.fixture(scope="module")
def verilog():
    """From the cache of device `rtl`, which knows it by all that it is made from."""
    return Simulators(cache_folder()).verilog(TINY, write_verilog)


def test_ports_are_those_of_the_page(verilog):
    (names,) = re.findall(r"^module npu\((.*?)\);", verilog, re.MULTILINE | re.DOTALL)
    units = [f"trace_{unit}_{name}" for unit in UNITS for name in ("retired", "number", "cycles")]
    bus = [f"bus_{name}" for name in ("cyc", "stb", "we", "adr", "dat_w", "dat_r", "ack")]
    memory = [f"memory_{name}" for name in ("valid", "ready", "write", "address", "data", "mask")]
    response = [f"response_{name}" for name in ("valid", "ready", "data")]
    expected = ["clk", "rst", *bus, *memory, *response, "progress", "done", *units]
    assert sorted(name.strip() for name in names.split(",")) == sorted(expected)


def test_there_is_one_module_for_all_pairs_of_lanes(verilog):
    assert len(re.findall(r"^module npu_lane_pair\(", verilog, re.MULTILINE)) == 1
    assert len(re.findall(r"^  npu_lane_pair ", verilog, re.MULTILINE)) == TINY.lanes // 2


def test_memories_are_not_set_word_by_word(verilog):
    assert len(re.findall(r"\[\d+\] = \d+'h0+;", verilog)) < 50


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "kv260",
            "Architecture kv260 is more than this hardware can be built for:\n"
            "lanes must be 4 or 8 or 16 or 32, not 64\n"
            "max_split must be 1, not 2\n"
            "epilogue_values must be 1 or 2 or 4, not 32\n"
            "vector_values must be 1 or 2 or 4, not 32",
        ),
        ("software", "lanes must be 4 or 8 or 16 or 32, not 0"),
    ],
)
def test_larger_architectures_are_refused(name, text):
    with pytest.raises(DeviceError) as error:
        write_verilog(name)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"max_interleave": 6}, "max_interleave must lie in 7..32, not 6"),
        ({"adder_latency": 8}, "adder_latency must be 5 or 7 or 9, not 8"),
        (
            {"vector_values": 4},
            "vector_values must be those of the epilogue, which runs pools and maps too: 2, not 4",
        ),
        ({"vectors": 1}, "vectors must lie in 2..65536, not 1"),
        ({"max_weight_bits": 9}, "max_weight_bits must lie in 4..8, not 9"),
    ],
)
def test_each_size_has_its_limits(change, text):
    with pytest.raises(DeviceError) as error:
        check_limits(replace(TINY, **change))
    assert str(error.value).endswith(text)
    assert error.value.hint == "Build one such as tiny or ecp5_85f, with at most 32 lanes."


def test_an_unknown_name_is_told():
    with pytest.raises(NotFoundError, match="Architecture 'tinny' is not known"):
        write_verilog("tinny")
