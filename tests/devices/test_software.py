"""The software device beside the reference: shapes that its kernels cut, and values that strain them."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from gatecast.devices import default_device, device_report, open_device
from gatecast.errors import DeviceError
from gatecast.isa import Instruction, Port, Program, Section, View, architecture, assemble, pack_inputs
from gatecast.numerics import FORMATS, pack

software = pytest.importorskip("gatecast.devices.software", reason="needs the extension gatecast._native")

SETS = software.instruction_sets()
VARIANTS = [(name, threads) for name in SETS for threads in (1, 2, 5)]


def blocks(rng, shape, name, spread, fill=None):
    """Canonical or not, blocks within the limits: mantissas int8 ``[*shape, 32]`` and exponent bytes."""
    limit = FORMATS[name].mantissa_max
    mantissas = rng.integers(-limit, limit + 1, (*shape, 32))
    if fill is not None:
        mantissas[...] = fill * limit
    return mantissas.astype(np.int8), (127 + rng.integers(-spread, spread + 1, shape)).astype(np.uint8)


def convolution(seed, size, blocks_in_out, kernel=1, **given):
    """A Program of one convolution of random weights, and an input for it."""
    rng = np.random.default_rng(seed)
    rows, columns = size
    stored, made = blocks_in_out
    name, weights = given.pop("formats", ("bfp8", "bfp8"))
    fill, spread = given.pop("fill", None), given.pop("spread", 3)
    group = given.get("group_blocks", 0)
    in_blocks = stored // (made // group) if group else stored
    stride = given.get("stride_y", 1)
    out = tuple((n + 2 * (kernel // 2) - kernel) // stride + 1 for n in size)
    source = Port.packed("x", (rows, columns, 32 * stored), name)
    result = Port.packed("y", (*out, 32 * made), given.pop("out_format", "bfp8"))
    count = made * kernel * kernel * in_blocks
    mantissas, exponents = blocks(rng, (count, 32), weights, spread, fill)
    if given.pop("depthwise", False):
        mantissas *= np.eye(32, dtype=np.int8)
    section = np.concatenate([pack(mantissas, FORMATS[weights]).reshape(count, -1), exponents], 1).tobytes()
    bias, section = len(section), section + rng.normal(size=32 * made).astype("<f4").tobytes()
    place = ("offset", "row_pitch", "exponents", "exponent_pitch", "pixel_pitch")
    chip_in, chip_out = (
        View(0, name, columns * stored, stored),
        View(rows * columns * stored, result.format, out[1] * made, made),
    )
    if result.format == "float32":
        chip_out = View(made, "float32", out[1] * made, made)
    text = [
        Instruction("weights", format=weights, count=count),
        Instruction("constants", offset=bias, count=made, signal="matrix"),
        Instruction("load", section=Section.INPUTS, **{n: getattr(source, n) for n in place},
                    **chip_in.fields("out"), out_rows=rows, out_columns=columns, out_blocks=stored,
                    signal="matrix"),
        Instruction("convolve", **chip_in.fields("in"), in_rows=rows, in_columns=columns, in_y=-(kernel // 2),
                    in_x=-(kernel // 2), kernel_rows=kernel, kernel_columns=kernel, in_blocks=in_blocks,
                    weight_format=weights, **chip_out.fields("out"), out_rows=out[0], out_columns=out[1],
                    out_blocks=made, has_bias=1, wait=("load", "weights"), signal="store", **given),
        Instruction("store", section=Section.OUTPUTS, **{n: getattr(result, n) for n in place},
                    **chip_out.fields("in"), in_rows=out[0], in_columns=out[1], in_blocks=made,
                    wait="matrix"),
        Instruction("end"),
    ]  # fmt: skip
    program = Program(architecture("software"), text, section, 0, (source,), (result,))
    x = rng.normal(size=source.shape) * np.exp2(rng.uniform(-spread, spread, (rows, columns, 1)))
    if fill is not None:
        x = np.full(source.shape, 1.999)
    return program, pack_inputs(program, {"x": x.astype(np.float32)})


def assert_equal(program, inputs, variants=VARIANTS):
    expected = open_device("reference").load(program).run(inputs)
    for name, threads in variants:
        loaded = software.SoftwareDevice(threads, name).load(program)
        assert loaded.run(inputs) == expected, (name, threads)
        assert loaded.run(inputs) == expected, "a second run"
        loaded.close()


@pytest.mark.parametrize("pixels", range(1, 17))
def test_any_number_of_pixels_makes_whole_and_broken_tiles(pixels):
    assert_equal(*convolution(pixels, (1, pixels), (2, 2)))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 7), (13, 6), (30, 31)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_borders_of_maps_of_any_size(size, kernel):
    assert_equal(*convolution(1, size, (1, 2), kernel))


@pytest.mark.parametrize(
    "size, blocks, kernel, fields",
    [
        ((28, 28), (4, 9), 3, {"activation": 1}),  # many pixels: shared by pixels
        ((40, 40), (2, 3), 1, {"stride_y": 2, "stride_x": 2}),
        ((3, 7), (12, 23), 1, {}),  # few: by output blocks
        ((5, 8), (12, 3), 1, {}),  # few of both
        ((1, 1), (40, 40), 1, {}),
    ],
)
def test_work_that_the_threads_share(size, blocks, kernel, fields):
    variants = [(name, threads) for name in SETS for threads in (1, 2, 3, 5, 16)]
    assert_equal(*convolution(2, size, blocks, kernel, **fields), variants)


@pytest.mark.parametrize("group", [1, 2])
def test_groups_read_their_own_blocks(group):
    assert_equal(*convolution(4, (9, 8), (4, 4), 3, group_blocks=group))


DEPTHWISE = {"depthwise": True, "group_blocks": 1}


@pytest.mark.parametrize("pixels", range(1, 17))
def test_depthwise_convolutions_of_any_number_of_pixels(pixels):
    assert_equal(*convolution(pixels, (1, pixels), (2, 2), **DEPTHWISE))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"activation": 1},
        {"activation": 2, "low": 0.25, "high": 6.0, "last_channels": 17},
        {"stride_y": 2, "stride_x": 2},
        {"out_format": "float32", "fill": -1},
        {"out_format": "float32", "spread": 48},
        {"formats": ("bfp5", "bfp4")},
        {"group_blocks": 0},  # all output blocks of one input block
    ],
)
def test_depthwise_convolutions(fields):
    stored = 1 if fields.get("group_blocks") == 0 else 3
    assert_equal(*convolution(8, (13, 11), (stored, 3), 3, **DEPTHWISE | fields))


def test_one_weight_beside_the_diagonal_is_not_lost():
    program, inputs = convolution(9, (5, 5), (2, 2), 3, **DEPTHWISE)
    weights = bytearray(program.weights)
    weights[8 * (32 * 33) + 5 * 32 + 6] = 77  # panel 8, lane 5, channel 6
    assert_equal(replace(program, weights=bytes(weights)), inputs)


@pytest.mark.parametrize("out", ["float32", *FORMATS])
@pytest.mark.parametrize("formats", [(a, w) for a in FORMATS for w in FORMATS])
def test_all_formats(formats, out):
    assert_equal(*convolution(5, (2, 5), (2, 1), 1, formats=formats, out_format=out), [(n, 1) for n in SETS])


@pytest.mark.parametrize("fill", [-1, 1])
@pytest.mark.parametrize("spread", [0, 48])
def test_the_largest_sums_of_products(fill, spread):
    """All mantissas at their limit, so that a block's sum and its correction are as large as they can be."""
    assert_equal(*convolution(6, (2, 7), (3, 2), 1, fill=fill, spread=spread, out_format="float32"))


@pytest.mark.parametrize("seed", range(4))
def test_exponents_far_apart_round_in_the_order_of_the_contract(seed):
    assert_equal(*convolution(seed, (6, 7), (4, 2), 3, spread=20, out_format="float32"))


@pytest.mark.parametrize("activation", [0, 1, 2])
@pytest.mark.parametrize("last_channels", [1, 2, 17, 31, 32])
def test_absent_channels_after_each_activation(activation, last_channels):
    limits = {"low": 0.25, "high": 6.0} if activation == 2 else {}
    fields = {"activation": activation, "last_channels": last_channels, **limits}
    assert_equal(*convolution(7, (3, 3), (1, 2), 1, **fields))


def test_panels_that_are_loaded_again_are_those_of_the_text():
    """Two convolutions read one place of weight memory, whose content changes between them."""
    program, inputs = convolution(8, (4, 4), (1, 1))
    other = convolution(9, (4, 4), (1, 1))[0]
    weights, constants, load, convolve, store, end = program.text
    both = program.weights.tobytes().ljust(1280, b"\0") + other.weights.tobytes()
    text = (
        weights, constants, load, convolve.replace(signal="weights"),
        weights.replace(offset=1280, wait="matrix", signal="matrix"),
        convolve.replace(wait=("weights", "matrix"), signal="store"), store, end,
    )  # fmt: skip
    again = Program(program.architecture, text, both, 0, program.inputs, program.outputs)
    assert_equal(again, inputs)
    first = open_device("reference").load(program).run(inputs)
    assert open_device("reference").load(again).run(inputs) != first


def test_the_report_says_what_ran():
    loaded = software.SoftwareDevice(2, SETS[-1]).load(Program(architecture("software"), assemble("end")))
    assert device_report(loaded) == {"instruction_set": SETS[-1], "threads": 2}


def test_the_environment_forces_an_instruction_set(monkeypatch):
    monkeypatch.setenv("GATECAST_CPU", "portable")
    assert open_device("software").instruction_set == "portable"
    monkeypatch.setenv("GATECAST_CPU", "neon9")
    with pytest.raises(
        DeviceError, match=r"^GATECAST_CPU must be one that this machine has, .*portable, not 'neon9'$"
    ):
        open_device("software")


def test_threads_are_at_least_one():
    assert open_device("software", threads=3).threads == 3
    with pytest.raises(DeviceError, match=r"^Threads must be at least 1, not 0$"):
        open_device("software", threads=0)


def test_a_profile_has_a_time_for_each_instruction():
    program, inputs = convolution(10, (20, 20), (2, 2), 3)
    times = software.SoftwareDevice(1).load(program).profile(inputs)
    assert times.shape == (len(program.text),) and times[3] > 0 and times[-1] == 0


def test_sessions_at_once_do_not_disturb_each_other():
    cases = [convolution(seed, (17, 17), (2, 3), 3) for seed in range(4)]
    expected = [open_device("reference").load(program).run(inputs) for program, inputs in cases]
    loaded = [
        software.SoftwareDevice(threads).load(program)
        for (program, _), threads in zip(cases, (1, 2, 2, 4), strict=True)
    ]
    jobs = [(loaded[n % 4], cases[n % 4][1], expected[n % 4]) for n in range(64)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda job: job[0].run(job[1]) == job[2], jobs))


def shared(first, second, *sets):
    """Whether two Programs, loaded together, share their packed weights; each on its instruction set."""
    loaded = [
        software.SoftwareDevice(1, name).load(program)
        for program, name in zip((first, second), sets or (SETS[0], SETS[0]), strict=True)
    ]
    return loaded[0].packed == loaded[1].packed


def test_sessions_of_the_same_program_share_its_packed_weights():
    program, inputs = convolution(seed=1, size=(5, 6), blocks_in_out=(2, 3), kernel=3)
    other, _ = convolution(seed=2, size=(5, 6), blocks_in_out=(2, 3), kernel=3)
    assert shared(program, Program.from_bytes(program.to_bytes()))
    assert not shared(program, other)
    first, second = (software.SoftwareDevice(threads).load(program) for threads in (1, 2))
    assert first.packed == second.packed
    assert first.packed[1] == 3 * 9 * 2 * (32 * 32 + 128)
    expected = open_device("reference").load(program).run(inputs)
    first.close()  # what it packed is the other's too
    assert second.run(inputs) == expected


@pytest.mark.skipif(len(SETS) < 2, reason="needs a processor with two instruction sets")
def test_each_instruction_set_packs_weights_its_own_way():
    program, _ = convolution(seed=1, size=(5, 6), blocks_in_out=(2, 3))
    assert not shared(program, program, *SETS[:2])


def test_a_forked_child_gets_threads_of_its_own():
    program, inputs = convolution(11, (28, 28), (2, 4), 3)
    loaded = software.SoftwareDevice(2).load(program)
    expected = loaded.run(inputs)
    child = os.fork()
    if child == 0:  # no test runs on in the child
        good = software.SoftwareDevice(2).load(program).run(inputs) == expected
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert loaded.run(inputs) == expected


def test_without_the_extension_the_reference_device_is_the_default(monkeypatch):
    monkeypatch.setitem(sys.modules, "gatecast._native", None)
    monkeypatch.delitem(sys.modules, "gatecast.devices.software")
    monkeypatch.delattr("gatecast._native", raising=False)
    default_device.cache_clear()
    try:
        assert default_device() == "reference"
        with pytest.raises(DeviceError, match="its extension gatecast._native is not here") as raised:
            open_device("software")
        assert "--device reference" in raised.value.hint
    finally:
        default_device.cache_clear()
