import dataclasses
import hashlib
import mmap

import numpy as np
import pytest

from gatecast.errors import FileError, ProgramError
from gatecast.isa import Instruction, Program, assemble, encode_text


def reading(data):
    with pytest.raises(FileError) as caught:
        Program.from_bytes(bytes(data))
    return str(caught.value)


def flipped(data, at, bit=0):
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return changed


def rewritten(data, section, content):
    """File with a section's content changed, its length kept and its digest made anew."""
    position = ("text", "weights", "tables").index(section)
    entry = 64 + 64 * position
    offset, length = (int.from_bytes(data[entry + i : entry + i + 8], "little") for i in (16, 24))
    content = content.ljust(length)
    assert len(content) == length
    changed = bytearray(data)
    changed[offset : offset + length] = content
    changed[entry + 32 : entry + 64] = hashlib.sha256(content).digest()
    return changed


def test_a_program_survives_its_file(example):
    program = example()
    again = Program.from_bytes(program.to_bytes())
    assert again == program
    assert again.to_bytes() == program.to_bytes()


def test_a_prologue_survives_the_file(example):
    program = example(text=assemble("constants count=1\nend\nend\n"), prologue=2)
    again = Program.from_bytes(program.to_bytes())
    assert again.prologue == 2
    assert again.body == (Instruction("end"),)


def test_equal_programs_have_equal_files(example):
    assert example().to_bytes() == example().to_bytes()


def test_weights_are_mapped_not_copied(example, tmp_path):
    file = tmp_path / "program"
    file.write_bytes(example().to_bytes())
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        program = Program.from_bytes(mapped)
        assert program.weights.obj is mapped
        assert program.weights.readonly
        program.weights.release()
        del program


def test_a_flip_of_any_bit_is_refused(example):
    text = assemble("constants count=1\nend\nconstants count=1\nend\n")
    data = example(text=text, prologue=2, weights=bytes(128)).to_bytes()
    for at in range(len(data)):
        for bit in range(8):
            assert reading(flipped(data, at, bit))


def test_every_truncation_is_refused(example):
    data = example(text=assemble("end"), weights=bytes(32)).to_bytes()
    for length in range(len(data)):
        assert reading(data[:length])
    assert reading(data + bytes(64)) == f"Program must have {len(data)} bytes, not {len(data) + 64}"


def test_damage_names_the_section(example):
    data = example().to_bytes()
    for position, name in enumerate(("text", "weights", "tables")):
        offset = int.from_bytes(data[64 + 64 * position + 16 :][:8], "little")
        message = reading(flipped(data, offset + 5))
        assert message.startswith(f"Section {name} of the Program is damaged: its SHA-256 must be ")


def test_bytes_of_another_kind_or_version_are_refused_by_name(example):
    data = bytearray(example().to_bytes())
    assert reading(b"") == "Program must have at least 64 bytes, not 0"
    assert reading(bytes(64)) == "Program must begin with GCPROGRM: this is another kind of file"
    assert reading(data[:8] + b"\x02\0" + data[10:]) == "Program must be of version 1.0 to 1.0, not 2.0"
    assert reading(data[:8] + b"\x01\0\x07\0" + data[12:]) == "Program must be of version 1.0 to 1.0, not 1.7"
    assert reading(data[:12] + b"\x09" + data[13:]) == "Program must have 3 sections, not 9"


def test_a_huge_length_is_refused_before_anything_is_read(example):
    data = bytearray(example().to_bytes())
    data[64 + 24 : 64 + 32] = b"\xff" * 8
    assert reading(data).startswith("Section text of the Program is truncated: it ends at byte ")


def test_tables_that_are_no_tables_are_refused(example):
    data = example(producer="x" * 200_000).to_bytes()
    assert reading(rewritten(data, "tables", b"[1,")) == "Section tables of the Program must be JSON"
    assert reading(rewritten(data, "tables", b"[" * 200_000)) == "Section tables of the Program must be JSON"
    assert reading(rewritten(data, "tables", b"{}")).startswith(
        "Section tables of the Program must hold arch"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"workspace_bytes":0', b'"workspace_bytes":-', "must be JSON"),
        (b'"numerics_version":1', b'"numerics_version":[', "must be JSON"),
        (
            b'"rows":16',
            b'"rows":-1',
            "Table inputs of the Program: Field rows of port 'image' must be at least 1",
        ),
        (b'"rows":16', b'"rows":""', "Table inputs of the Program: Numbers of port 'image' must be integers"),
        (b'"name":"a10"', b'"name":10   ', "Field name of an Architecture must not be 10"),
        (b'"format":"bfp8"', b'"format":"bfp9"', "Field format of port 'image' must be float32 or one of"),
        (b'"block_channels":[21]', b'"block_channels":[20]', "must add up to the 21 channels"),
        (b'"lanes":128', b'"lanes":1.8', "Field lanes of an Architecture must not be 1.8"),
        (
            b'"layers":["image"',
            b'"layers":[1      ',
            "Table layers of the Program must be at most 16384 names",
        ),
        (b'"vectors":1024', b'"vectors":1025', "its architecture digest is not that of the tables"),
    ],
)
def test_tables_out_of_range_are_refused(example, old, new, message):
    data = example().to_bytes()
    tables = data[data.index(b'{"architecture"') :].rstrip(b"\0")
    assert old in tables
    assert message in reading(rewritten(data, "tables", tables.replace(old, new, 1)))


def test_an_unknown_instruction_is_refused_with_its_number(example):
    data = example().to_bytes()
    text = bytearray(encode_text(example().text))
    text[3 * 128] = 200
    with pytest.raises(ProgramError, match=r"^Instruction 3: Opcode must be one of 0, 1, .*, not 200$"):
        Program.from_bytes(bytes(rewritten(data, "text", bytes(text))))


def test_sizes_of_sections_follow_from_the_ports(example):
    program = example()
    assert program.inputs_bytes == 16 * 256 + 16 * 64
    assert program.outputs_bytes == 128
    assert dataclasses.replace(program, inputs=()).inputs_bytes == 0


def test_layers_have_names_or_numbers(example):
    assert [example().layer_name(n) for n in (1, 9)] == ["stem", "layer 9"]


def test_weights_may_be_any_buffer(example):
    assert example(weights=bytearray(b"ab")).weights == b"ab"
    assert example(weights=np.arange(4, dtype=np.uint16).data).weights.nbytes == 8
