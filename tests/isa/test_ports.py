import dataclasses

import numpy as np
import pytest

from gatecast.errors import ProgramError, RequestError
from gatecast.isa import Port, pack_inputs, unpack_outputs
from gatecast.numerics import FORMATS, decode, encode, round_to_format

SHAPES = [(1, 1, 1), (1, 1, 32), (1, 1, 100), (3, 5, 33), (7, 2, 96), (2, 3, 21)]


def tensor(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["float32", *FORMATS])
def test_tensors_survive_packing_in_their_format(example, shape, name):
    port = Port.packed("x", shape, name)
    program, x = example(inputs=(port,), outputs=(port,)), tensor(shape)
    found = unpack_outputs(program, pack_inputs(program, {"x": x}))["x"]
    expected = x if name == "float32" else round_to_format(x, FORMATS[name])
    assert found.dtype == np.float32 and (found == expected).all()


def test_bytes_lie_where_the_page_says(example):
    x = tensor((2, 3, 40))
    port = Port.packed("x", (2, 3, 40), "bfp5", offset=128)
    section = np.frombuffer(pack_inputs(example(inputs=(port,)), {"x": x}), np.uint8)
    mantissas, exponents = encode(x, FORMATS["bfp5"])
    assert (port.row_pitch, port.exponents, port.exponent_pitch, port.end) == (128, 384, 64, 512)
    for y, column, block in np.ndindex(2, 3, 2):
        at = 128 + y * 128 + (column * 2 + block) * 20
        code = int.from_bytes(section[at : at + 20].tobytes(), "little")
        fields = [(code >> 5 * i & 31) - (code >> 5 * i & 16) * 2 for i in range(32)]
        assert fields == mantissas[y, column, block].tolist()
        assert section[384 + y * 64 + column * 2 + block] == exponents[y, column, block]


def test_blocks_may_hold_fewer_channels_than_32(example):
    packed = Port.packed("x", (2, 2, 50), "bfp8")
    port = dataclasses.replace(packed, block_channels=(20, 30))
    x = tensor((2, 2, 50))
    section = pack_inputs(example(inputs=(port,)), {"x": x})
    found = unpack_outputs(example(outputs=(port,)), section)["x"]
    parts = [round_to_format(part, FORMATS["bfp8"]) for part in (x[..., :20], x[..., 20:])]
    assert (found == np.concatenate(parts, axis=-1)).all()
    lanes = unpack_outputs(example(outputs=(Port.packed("x", (2, 2, 64), "bfp8"),)), section)["x"]
    assert (lanes[..., 20:32] == 0).all() and (lanes[..., 32:62] == parts[1]).all()


@pytest.mark.parametrize("counts", [(32, 18), (20, 30)])
def test_a_vector_of_scores_is_read_from_its_place(example, counts):
    first = Port.packed("first", (1, 1, 3), "float32")
    port = dataclasses.replace(
        Port.packed("x", (1, 1, 50), "float32", offset=first.end), block_channels=counts
    )
    x = tensor((1, 1, 50))
    section = pack_inputs(example(inputs=(first, port)), {"first": tensor((1, 1, 3)), "x": x})
    found = unpack_outputs(example(outputs=(first, port)), section)["x"]
    assert found.flags.writeable and (found == x).all()


def test_small_values_and_negative_zeros_become_zeros(example):
    port = Port.packed("x", (1, 1, 4), "float32")
    program = example(inputs=(port,))
    x = np.array([[[2.0**-80, -(2.0**-81), -0.0, 1e-45]]], np.float32)
    section = np.frombuffer(pack_inputs(program, {"x": x}), "<u4")[:4]
    assert section.tolist() == [(127 - 80) << 23, 0, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.float32(2.0**64) * np.float32(1.5)])
@pytest.mark.parametrize("name", ["float32", "bfp8"])
def test_values_that_have_no_place_are_refused_by_tensor_and_index(example, bad, name):
    program = example(inputs=(Port.packed("image", (2, 3, 4), name),))
    x = tensor((2, 3, 4))
    x[1, 2, 0] = bad
    with pytest.raises(
        RequestError,
        match=r"^Values of input image must be finite and at most 2\*\*64, not .* at \[1, 2, 0\]$",
    ):
        pack_inputs(program, {"image": x})
    x[1, 2, 0] = 2.0**64
    pack_inputs(program, {"image": x})


def test_wrong_tensors_are_refused(example):
    program = example()
    with pytest.raises(RequestError, match=r"^Inputs must be image, not nothing$"):
        pack_inputs(program, {})
    with pytest.raises(RequestError, match=r"^Inputs must be image, not images$"):
        pack_inputs(program, {"images": tensor((16, 8, 21))})
    with pytest.raises(
        RequestError, match=r"^Input 'image' must be float32 \[16, 8, 21\], not float32 \[16, 8, 3\]$"
    ):
        pack_inputs(program, {"image": tensor((16, 8, 3))})
    with pytest.raises(RequestError, match=r"^Input 'image' must be float32 .*, not float64 \[16, 8, 21\]$"):
        pack_inputs(program, {"image": np.zeros((16, 8, 21))})
    with pytest.raises(ProgramError, match=r"^Section must have 128 bytes, not 1$"):
        unpack_outputs(program, b"x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 32}, r"^Field offset of port 'x' must be a multiple of 64 below 2\*\*32, not 32$"),
        ({"rows": 0}, r"^Field rows of port 'x' must be at least 1, not 0$"),
        ({"format": "int8"}, r"^Field format of port 'x' must be float32 or one of bfp4, .*, not 'int8'$"),
        ({"block_channels": (33, 7)}, r"^Field block_channels of port 'x' must lie in 1\.\.32$"),
        ({"block_channels": (32,)}, r"^Field block_channels of port 'x' must add up to the 40 channels$"),
        ({"pixel_pitch": 1}, r"^Field pixel_pitch of port 'x' must hold the 2 blocks, and the map 16777216$"),
        ({"rows": 1 << 24}, r"^Field pixel_pitch of port 'x' must hold the 2 blocks, and the map 16777216$"),
    ],
)
def test_ports_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ProgramError, match=message):
        dataclasses.replace(Port.packed("x", (2, 3, 40), "bfp8"), **changes)


def test_decode_needs_no_compiler(example):
    """The port alone says how to read a section; here it is read by hand."""
    port = Port.packed("x", (1, 2, 32), "bfp8")
    x = tensor((1, 2, 32))
    section = np.frombuffer(pack_inputs(example(inputs=(port,)), {"x": x}), np.uint8)
    mantissas = section[:64].view(np.int8).reshape(1, 2, 1, 32)
    exponents = section[port.exponents :][:2].reshape(1, 2, 1)
    assert (decode(mantissas, exponents, FORMATS["bfp8"]) == round_to_format(x, FORMATS["bfp8"])).all()
