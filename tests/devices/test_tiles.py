"""Convolutions by tiles: where tiles, chunks of sums and parts of maps end; values that strain bfloat16."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.devices.all_tiles import TILED, assert_equal_by_tiles, software
from tests.devices.test_software import convolution

from gatecast.devices import open_device
from gatecast.numerics import FORMATS

pytestmark = pytest.mark.skipif(
    TILED not in software.instruction_sets(), reason=f"needs a processor with {TILED}"
)


def tilings(program, name=TILED):
    """How many convolutions of a Program run by tiles."""
    return software.SoftwareDevice(1, name).load(program)._native.tilings


def assert_tiled_and_equal(program, inputs, threads=(1, 2, 3)):
    assert all(loaded.tilings == 1 for loaded in assert_equal_by_tiles(program, inputs, threads))


@pytest.mark.parametrize("blocks", range(2, 27))
def test_sums_of_any_number_of_blocks(blocks):
    """One chunk or some, of an even or an odd number of blocks; and the end of a tile after either."""
    assert_tiled_and_equal(*convolution(blocks, (12, 16), (blocks, 2), out_format="float32"), threads=(1,))


@pytest.mark.parametrize("pixels", range(1, 51))
def test_tiles_that_are_not_full(pixels):
    assert_tiled_and_equal(*convolution(pixels, (1, pixels), (4, 3)), threads=(1,))


@pytest.mark.parametrize("columns", [7, 14, 15, 16, 17, 31, 32, 33])
@pytest.mark.parametrize("kernel", [3, 5])
def test_rows_that_share_the_zeros_between_them(columns, kernel):
    assert_tiled_and_equal(*convolution(columns, (18, columns), (2, 3), kernel))


@pytest.mark.parametrize("stride_y, stride_x", list(itertools.product((1, 2, 3), repeat=2)))
@pytest.mark.parametrize("kernel", [1, 3])
def test_strides_take_rows_and_columns_apart(stride_y, stride_x, kernel):
    program, inputs = convolution(3, (37, 37), (5, 4), kernel)
    convolve = next(i for i in program.text if i.name == "convolve")
    assert convolve.out_rows == 37  # as many outputs with strides reach beyond the map, where all is zero
    text = [
        i.replace(stride_y=stride_y, stride_x=stride_x) if i.name == "convolve" else i for i in program.text
    ]
    changed = type(program)(program.architecture, text, program.weights, 0, program.inputs, program.outputs)
    assert_tiled_and_equal(changed, inputs, threads=(1, 2))


@pytest.mark.parametrize("group", [1, 2])
def test_groups_read_their_own_planes(group):
    assert_tiled_and_equal(*convolution(4, (16, 15), (4, 4), 3, group_blocks=group))


@pytest.mark.parametrize("size, blocks", [((61, 61), (3, 5)), ((14, 14), (9, 17)), ((7, 7), (8, 30))])
def test_work_that_the_threads_share(size, blocks):
    """A map in many parts, in few, and output blocks in their place."""
    assert_tiled_and_equal(*convolution(5, size, blocks, 3, activation=1), threads=(1, 2, 3, 5, 16))


@pytest.mark.parametrize("formats", [(a, w) for a in FORMATS for w in FORMATS])
def test_all_formats(formats):
    assert_tiled_and_equal(*convolution(6, (6, 16), (3, 2), 1, formats=formats), threads=(1,))


@pytest.mark.parametrize("fill", [-1, 1])
@pytest.mark.parametrize("spread", [0, 48])
def test_the_largest_sums_of_products(fill, spread):
    """All mantissas at their limit, and exponents from one end of their range to the other."""
    case = convolution(7, (6, 16), (7, 2), 1, fill=fill, spread=spread, out_format="float32")
    assert_tiled_and_equal(*case)


@pytest.mark.parametrize("seed", range(8))
def test_exponents_far_apart_round_in_the_order_of_the_contract(seed):
    """Were two blocks added before the sum so far, or its lower bits lost, some of these would differ."""
    assert_tiled_and_equal(*convolution(seed, (9, 17), (4, 2), 3, spread=20, out_format="float32"))


@pytest.mark.parametrize("spread", [24, 48])
def test_the_smallest_products_are_not_lost(spread):
    """AMX takes subnormal numbers for zero: none of these is one."""
    case = convolution(8, (6, 16), (4, 2), 1, formats=("bfp8", "bfp8"), spread=spread, out_format="float32")
    assert_tiled_and_equal(*case)


@pytest.mark.parametrize("activation", [0, 1, 2])
@pytest.mark.parametrize("last_channels", [1, 17, 32])
def test_ends_of_tiles(activation, last_channels):
    limits = {"low": 0.25, "high": 6.0} if activation == 2 else {}
    fields = {"activation": activation, "last_channels": last_channels, **limits}
    assert_tiled_and_equal(*convolution(9, (9, 9), (4, 2), 1, **fields))


@pytest.mark.parametrize(
    "size, blocks, fields",
    [
        ((1, 8), (4, 4), {}),  # too few pixels for the cost of a panel
        ((16, 16), (1, 2), {}),  # sums of one block
        ((16, 16), (2, 2), {"depthwise": True, "group_blocks": 1}),
    ],
)
def test_what_tiles_do_not_suit_is_left_to_other_kernels(size, blocks, fields):
    program, inputs = convolution(10, size, blocks, **fields)
    assert tilings(program) == 0
    assert software.SoftwareDevice(1, TILED).load(program).run(inputs) == open_device("reference").load(
        program
    ).run(inputs)


def test_other_instruction_sets_have_no_tiles():
    program, _ = convolution(11, (16, 16), (4, 6))
    others = [name for name in software.instruction_sets() if name != TILED]
    assert tilings(program) == 1 and not any(tilings(program, name) for name in others)


def test_sessions_at_once_have_tiles_of_their_own():
    cases = [convolution(seed, (17, 17), (3, 5), 3) for seed in range(4)]
    expected = [open_device("reference").load(program).run(inputs) for program, inputs in cases]
    loaded = [
        software.SoftwareDevice(threads, TILED).load(program)
        for (program, _), threads in zip(cases, (1, 1, 2, 2), strict=True)
    ]
    jobs = [(loaded[n % 4], cases[n % 4][1], expected[n % 4]) for n in range(64)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda job: job[0].run(job[1]) == job[2], jobs))
