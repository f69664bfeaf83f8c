import pytest

from gatecast.errors import ProgramError
from gatecast.isa import KINDS, Instruction, assemble, chains, listing, parse, show

NAMES = [kind.name for kind in KINDS]


@pytest.mark.parametrize("name", NAMES)
def test_random_fields_survive_show_and_parse(name, random_instruction):
    for seed in range(50):
        instruction = random_instruction(name, seed)
        assert parse(show(instruction)) == instruction


def test_a_listing_survives_assembly(example):
    text = example().text
    assert assemble(listing(text)) == text


def test_defaults_are_left_out():
    assert show(Instruction("end")) == "end"
    assert show(Instruction("sync", unit="vector", wait="load")) == "sync      unit=vector wait(load)"
    weights = Instruction("weights", format="bfp8", count=14, signal=("store", "matrix"))
    assert show(weights) == "weights   format=bfp8 count=14 signal(matrix,store)"


def test_floats_are_shown_as_short_as_can_be():
    shape = {"in_rows": 1, "in_columns": 1, "out_rows": 1, "out_columns": 1, "out_blocks": 1}
    assert "factor=0.1" in show(Instruction("pool", factor=0.1, **shape)).split()


def test_comments_and_empty_lines_are_skipped_and_numbers_may_be_hexadecimal():
    text = "; a comment\n\nconstants count=0x10 offset=0x40 ; sixteen\nend\n"
    assert assemble(text) == (Instruction("constants", count=16, offset=64), Instruction("end"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("halt", r"^Line 2: Instruction must be one of end, .*, not 'halt'$"),
        (
            "constants count",
            r"^Line 2: Part of constants must be name=value, wait\(…\) or signal\(…\), not 'count'$",
        ),
        ("constants count=ten", r"^Line 2: Field constants\.count must be an integer, not 'ten'$"),
        ("constants size=1", r"^Line 2: Instruction constants has no field size$"),
        ("constants wait=1", r"^Line 2: Instruction constants has no field wait$"),
        ("constants count=1 count=2", r"^Line 2: Field constants\.count must be given once$"),
        ("constants count=1 wait(dma)", r"^Line 2: Field constants\.wait must name units of .*, not dma$"),
        ("pool in=8:1", r"^Line 2: View pool\.in must be @address:row:pixel:format, not '8:1'$"),
        ("pool in=@0:1:1:int8", r"^Line 2: Field pool\.in_format must be one of none, .*, not 'int8'$"),
        ("pool factor=half", r"^Line 2: Field pool\.factor must be a number, not 'half'$"),
    ],
)
def test_errors_name_the_line_and_what_is_wrong(line, message):
    with pytest.raises(ProgramError, match=message):
        assemble(f"sync\n{line}\n")


def test_chains_say_what_is_done_in_words(example):
    program = example()
    assert chains(program.text, program.layers).splitlines()[3:6] == [
        "    3 matrix  stem: rd 16x8 → mv_mul 7x1x1 → add → relu → wr 4x8x2 bfp8",
        "    4 matrix  stem: rd 16x8 → mv_mul 7x1x1 → add → relu → wr 4x8x2 bfp8",
        "    5 vector  pool: rd 4x8 → maximum 2x2 → wr 2x4x2 bfp8",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_has_a_chain(name, random_instruction):
    for seed in range(20):
        assert chains([random_instruction(name, seed)]).strip()
