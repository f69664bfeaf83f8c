"""Sizes of tiles, parts of sums, and the order of loops."""

from dataclasses import replace

import numpy as np
import pytest

from gatecast.compiler.operations import Buffer, Convolve, Kernel, Map, Panels, Ref
from gatecast.compiler.plan import Plan, Shortage, Site, block_ranges, plan
from gatecast.isa import MapOperation

_NO_PANELS = Panels("bfp8", np.zeros((0, 0, 0, 0, 32, 32), np.int8), np.zeros((0, 0, 0, 0, 32), np.uint8))


def site(outside: str = "", activation=1000, vector=1000, weight=1000, out: str = "bfp8") -> Site:
    buffers = {"x": Buffer("x", "bfp8", 12, 10, 4), "y": Buffer("y", out, 12, 10, 6)}
    room = {"activation": activation, "vector": vector, "weight": weight}
    return Site(buffers, frozenset(outside.split()), room, True, True)


def convolution(kernel=(3, 3), group_blocks=0, in_blocks=4, **fields) -> Convolve:
    return Convolve(
        layer="c",
        source=Ref("x", 0, 4),
        out=Ref("y", 0, 6),
        kernel=Kernel(kernel, before=(1, 1), **fields),
        panels=_NO_PANELS,
        in_blocks=in_blocks,
        group_blocks=group_blocks,
    )


def slots(found: Plan) -> dict[str, tuple[int, int]]:
    return {slot.name: (slot.size, slot.count) for slot in found.slots}


def test_what_fits_is_one_tile():
    found = plan(convolution(), site())
    assert (found.tile, len(found.parts), found.slots) == ((12, 10, 6), 1, ())


def test_outside_maps_pass_through_two_slots_each():
    found = plan(convolution(), site("x y", activation=600))
    assert slots(found) == {"in": (4 * 10 * 4, 2), "out": (2 * 10 * 6, 2)}


def test_one_slot_each_where_two_do_not_fit():
    found = plan(convolution(), site("x y", activation=3 * 3 * 4 + 1))
    assert found.tile == (1, 1, 1)
    assert slots(found) == {"in": (36, 1), "out": (1, 1)}


def test_columns_are_cut_when_a_row_does_not_fit():
    found = plan(convolution(), site("x", activation=3 * 6 * 4 * 2))
    assert found.tile[:2] == (1, 4)


def test_output_blocks_are_cut_to_half_of_weight_memory():
    found = plan(convolution(), site(weight=36 * 4))
    assert found.tile == (12, 10, 2) and len(found.parts) == 1


def test_a_sum_is_cut_after_rows_then_taps_then_blocks():
    sizes = [plan(convolution(), site(weight=weight)).parts[0].size for weight in (35, 24, 12, 8, 4, 3, 1)]
    assert sizes == [(1, 3, 4), (1, 3, 4), (1, 1, 4), (1, 1, 4), (1, 1, 2), (1, 1, 1), (1, 1, 1)]


def test_parts_cover_the_sum_in_order():
    parts = plan(convolution(), site(weight=4)).parts
    taps = [
        (y, x, b) for p in parts for y in range(*p.rows) for x in range(*p.columns) for b in range(*p.blocks)
    ]
    assert taps == sorted(taps) and len(set(taps)) == 36


def test_partial_sums_need_vectors():
    found = plan(convolution(), site(weight=12, vector=25))
    assert found.tile == (2, 10, 1) and slots(found) == {"partials": (20, 1)}
    assert plan(convolution(), site(weight=12, vector=0)) == Shortage("vector", 1)


def test_what_lacks_is_named():
    assert plan(convolution(), site("x", activation=0)) == Shortage("activation", 1)
    assert plan(convolution((1, 1)), site("y", activation=0)) == Shortage("activation", 1)


def test_kernels_longer_than_a_field_are_cut():
    found = plan(convolution((1, 300), in_blocks=1), site())
    assert [part.columns for part in found.parts] == [(0, 255), (255, 300)]


def test_strides_longer_than_a_field_make_tiles_of_one():
    assert plan(convolution((1, 1), stride=(300, 1)), site()).tile == (1, 10, 6)


@pytest.mark.parametrize(
    ("group", "size", "expected"),
    [
        (0, 4, [(0, 4), (4, 6)]),
        (2, 3, [(0, 2), (2, 4), (4, 6)]),
        (2, 1, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]),
        (3, 2, [(0, 2), (2, 3), (3, 5), (5, 6)]),
        (4, 6, [(0, 6)]),
        (1, 5, [(0, 5), (5, 6)]),
    ],
)
def test_ranges_of_blocks_keep_to_groups(group, size, expected):
    assert block_ranges(convolution(group_blocks=group), size) == expected


def test_inputs_are_read_once_where_weights_are_the_smaller_part():
    large = site("x", activation=5000, weight=4)
    buffers = {"x": Buffer("x", "bfp8", 100, 100, 4), "y": Buffer("y", "bfp8", 100, 100, 6)}
    assert not plan(convolution((1, 1)), replace(large, buffers=buffers)).blocks_first
    small = site("x", activation=60, weight=4)  # so many tiles that their weights would be more
    assert plan(convolution((1, 1)), replace(small, buffers=buffers)).blocks_first


def test_rows_of_a_map_are_multiples_of_its_repeat():
    buffers = {"x": Buffer("x", "bfp8", 4, 10, 6), "y": Buffer("y", "bfp8", 12, 10, 6)}
    operation = Map(
        layer="m", a=Ref("x", 0, 6), out=Ref("y", 0, 6), repeat=(3, 1), operation=MapOperation.COPY
    )
    found = plan(operation, replace(site("x y", activation=90), buffers=buffers))
    assert found.tile[0] % 3 == 0 and found.tile[0] < 12
