import pytest

from gatecast.errors import FormatError
from gatecast.numerics import BFP4, BFP5, BFP6, BFP8, FORMATS, FormatPair, parse_format, parse_formats


def test_a_format_is_symmetric():
    assert [fmt.mantissa_max for fmt in FORMATS.values()] == [7, 15, 31, 63, 127]


def test_a_packed_block_has_four_bytes_for_each_bit():
    assert [fmt.block_bytes for fmt in FORMATS.values()] == [16, 20, 24, 28, 32]


def test_formats_are_written_as_they_are_read():
    assert parse_formats("bfp8") == FormatPair(BFP8, BFP8)
    assert parse_formats("bfp5/bfp6") == FormatPair(BFP5, BFP6)
    assert [str(parse_formats(text)) for text in ("bfp4", "bfp5/bfp6", "bfp6/bfp6")] == [
        "bfp4",
        "bfp5/bfp6",
        "bfp6",
    ]
    assert str(BFP4) == "bfp4"


@pytest.mark.parametrize("text", ["bfp9", "", "BFP8", "bfp5/", "/bfp5", "bfp8/bfp8/bfp8", "int8"])
def test_a_format_that_does_not_exist_is_named(text):
    with pytest.raises(FormatError, match="Format must be one of bfp4, bfp5, bfp6, bfp7, bfp8, not"):
        parse_formats(text)


def test_one_format_is_found_by_name():
    assert parse_format("bfp6") is BFP6
