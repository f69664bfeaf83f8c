import pytest

from gatecast.errors import ProgramError
from gatecast.isa import (
    FORMAT_NAMES,
    KINDS,
    UNITS,
    WORDS,
    Instruction,
    View,
    block_format,
    decode,
    decode_text,
    encode,
    encode_text,
    format_code,
    unit_of,
    units,
)
from gatecast.numerics import BFP5

NAMES = [kind.name for kind in KINDS]


@pytest.mark.parametrize("name", NAMES)
def test_random_fields_survive_encode_and_decode(name, random_instruction):
    for seed in range(50):
        instruction = random_instruction(name, seed)
        code = encode(instruction)
        assert len(code) == 128
        assert decode(code) == instruction


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_no_field_crosses_a_word_or_meets_another(kind):
    used = set()
    for place in kind.layout:
        assert place.bit + place.field.bits <= 32
        bits = {(place.word, place.bit + i) for i in range(place.field.bits)}
        assert not bits & used
        used |= bits
    assert kind.words <= WORDS


def test_the_longest_instruction_uses_23_words():
    assert max((kind.words, kind.name) for kind in KINDS) == (23, "convolve")


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_every_unused_bit_is_refused(kind, random_instruction):
    code = encode(random_instruction(kind.name, 0))
    used = {(p.word, p.bit + i) for p in kind.layout for i in range(p.field.bits)}
    for word in range(WORDS):
        for bit in range(32):
            if (word, bit) not in used:
                flipped = bytearray(code)
                flipped[4 * word + bit // 8] ^= 1 << bit % 8
                with pytest.raises(ProgramError, match=f"^Reserved bits of {kind.name} must be 0"):
                    decode(bytes(flipped))


def test_fields_not_given_have_their_defaults():
    sync = Instruction("sync", unit="matrix")
    assert (sync.unit, sync.wait, sync.signal, sync.layer) == (2, 0, 0, 0)
    pool = Instruction("pool", in_rows=1, in_columns=1, out_rows=1, out_columns=1, out_blocks=1)
    assert (pool.kernel_rows, pool.stride_x, pool.in_format) == (1, 1, 0)


def test_names_stand_for_formats_units_and_masks():
    weights = Instruction("weights", format="bfp5", count=1, wait="matrix", signal=["load", "store"])
    assert (weights.format, weights.wait, weights.signal) == (3, units("matrix"), units("load", "store"))
    assert FORMAT_NAMES[weights.format] == "bfp5" and format_code("bfp5") == 3
    assert block_format(weights.format) is BFP5


def test_a_view_is_given_and_read_as_one():
    view = View(5, "bfp8", 8, 2)
    store = Instruction("store", section=3, in_rows=1, in_columns=1, in_blocks=1, **view.fields("in"))
    assert store.view("in") == view


def test_units_run_what_the_table_says():
    assert unit_of(Instruction("end")) == "all"
    assert unit_of(Instruction("constants", count=1)) == "weights"
    assert [unit_of(Instruction("sync", unit=unit)) for unit in UNITS] == list(UNITS)


def test_replace_changes_only_what_it_names(random_instruction):
    instruction = random_instruction("map", 3)
    changed = instruction.replace(layer=7)
    assert changed.layer == 7
    assert changed.replace(layer=instruction.layer) == instruction


def test_floats_are_rounded_to_float32_and_zeros_have_one_code():
    pool = {"in_rows": 1, "in_columns": 1, "out_rows": 1, "out_columns": 1, "out_blocks": 1}
    assert Instruction("pool", factor=0.1, **pool).factor == 0.10000000149011612
    zero = Instruction("pool", factor=-0.0, **pool)
    assert encode(zero) == encode(Instruction("pool", **pool))
    code = bytearray(encode(zero))
    code[47] = 0x80
    with pytest.raises(ProgramError, match="a zero must be"):
        decode(bytes(code))
    code[46] = 0xC0
    code[47] = 0x7F
    with pytest.raises(ProgramError, match=r"^Field pool\.factor must be a finite float32, not nan$"):
        decode(bytes(code))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("halt", {}, r"^Instruction must be one of end, sync, load, .*, not 'halt'$"),
        ("end", {"count": 1}, r"^Instruction end has no field count$"),
        ("weights", {"format": 6}, r"^Field weights\.count must lie in 1\.\.16777215, not 0$"),
        ("weights", {"count": 1}, r"^Field weights\.format must lie in 2\.\.6, not 0$"),
        ("sync", {"layer": 1 << 14}, r"^Field sync\.layer must lie in 0\.\.16383, not 16384$"),
        (
            "sync",
            {"unit": "alu"},
            r"^Field sync\.unit must be one of load, weights, matrix, vector, store, not",
        ),
        ("sync", {"wait": ("alu",)}, r"^Field sync\.wait must name units of load, .*, not alu$"),
        ("sync", {"layer": 1.5}, r"^Field sync\.layer must be an integer, not 1\.5$"),
        (
            "pool",
            {"in_y": 1 << 15, "in_rows": 1, "in_columns": 1},
            r"in_y must lie in -32768\.\.32767, not 32768$",
        ),
        (
            "store",
            {"in_address": 3, "in_rows": 1, "in_columns": 1, "in_blocks": 1},
            r"^View store\.in of format none must have no address and no strides$",
        ),
    ],
)
def test_what_cannot_be_is_refused(name, fields, message):
    with pytest.raises(ProgramError, match=message):
        Instruction(name, **fields)


def test_an_instruction_has_only_its_own_fields():
    with pytest.raises(AttributeError, match="^Instruction end has no field count$"):
        _ = Instruction("end").count


def test_text_is_refused_with_the_number_of_the_instruction():
    text = encode_text([Instruction("sync"), Instruction("end")])
    assert decode_text(text) == (Instruction("sync"), Instruction("end"))
    with pytest.raises(ProgramError, match=r"^Text must be a multiple of 128 bytes, not 255$"):
        decode_text(text[:-1])
    with pytest.raises(ProgramError, match=r"^Instruction 1: Opcode must be one of 0, 1, .*, not 99$"):
        decode_text(text[:128] + b"\x63" + text[129:])
    with pytest.raises(ProgramError, match=r"^Instruction must have 128 bytes, not 3$"):
        decode(b"abc")
