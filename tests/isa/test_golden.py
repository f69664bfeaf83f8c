import pytest

from gatecast.errors import FileError
from gatecast.isa import KINDS, Program, assemble, decode, encode, listing, parse, show
from gatecast.isa.reference_page import layout_text


def test_the_layout_has_not_moved(golden):
    golden("isa/layout.txt", layout_text())


@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
def test_each_kind_keeps_its_listing_and_its_binary(name, golden, random_instruction):
    instruction = random_instruction(name, "golden", full=True)
    golden(f"isa/{name}.asm", show(instruction) + "\n")
    golden(f"isa/{name}.bin", encode(instruction))
    assert parse(show(instruction)) == decode(encode(instruction)) == instruction


def test_a_small_program_keeps_its_bytes(golden, example):
    program = example(text=assemble("constants count=1\nend\nend\n"), prologue=2, weights=bytes(128))
    golden("isa/small.program", program.to_bytes())


def test_the_example_is_listed_as_it_is_read(golden, example):
    golden("isa/example.asm", listing(example().text))


@pytest.mark.parametrize("damage", ["truncated", "unknown_minor", "flipped_bit"])
def test_damaged_files_keep_their_messages(damage, golden, example):
    data = bytearray(example(weights=example().weights[:512]).to_bytes())
    if damage == "truncated":
        data = data[:1500]
    elif damage == "unknown_minor":
        data[10] = 9
    else:
        data[-200] ^= 4
    with pytest.raises(FileError) as caught:
        Program.from_bytes(bytes(data))
    golden(f"isa/{damage}.txt", f"error: {caught.value}\nhint: {caught.value.hint}\n")
