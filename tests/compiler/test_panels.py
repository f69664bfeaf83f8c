"""Weights in blocks to panels, and groups to blocks. Ref: docs/spec/isa.md §§3, 6."""

import numpy as np
import pytest

from gatecast.compiler.operations import Epilogue, Panels
from gatecast.compiler.panels import Slab, ones, selection, slab_panels, slabs
from gatecast.compiler.steps import ConstantChunk, Part, WeightChunk
from gatecast.graph import BlockWeights, pieces_of
from gatecast.numerics import BFP5, BFP8, FORMATS, decode_blocks, encode, unpack


def cut(outputs: int, channels: int, groups: int) -> tuple[Slab, ...]:
    """Slabs of a convolution from `channels` to `outputs` channels."""
    return slabs(outputs, channels // groups, groups)


@pytest.mark.parametrize(
    ("outputs", "channels", "groups", "expected"),
    [
        (70, 100, 1, Slab(0, 3, 0, 4, 0)),
        (64, 64, 64, Slab(0, 2, 0, 1, 1)),  # depthwise
        (140, 70, 70, Slab(0, 5, 0, 1, 2)),  # two outputs a channel
        (96, 192, 3, Slab(0, 3, 0, 2, 1)),
        (192, 96, 3, Slab(0, 6, 0, 1, 2)),
        (64, 64, 16, Slab(0, 2, 0, 1, 1)),  # eight groups in a block
        (30, 30, 3, Slab(0, 1, 0, 1, 0)),  # all groups in one block
    ],
)
def test_regular_groups_are_one_slab(outputs, channels, groups, expected):
    assert cut(outputs, channels, groups) == (expected,)


def test_straddling_groups_are_a_slab_for_each_output_block():
    assert cut(64, 96, 2) == (Slab(0, 1, 0, 2, 0), Slab(1, 1, 1, 2, 0))
    assert cut(96, 72, 3) == (Slab(0, 1, 0, 1, 0), Slab(1, 1, 0, 2, 0), Slab(2, 1, 1, 2, 0))


def weights(outputs: int, per_group: int, groups: int, kernel=(2, 3), fmt=BFP8) -> BlockWeights:
    pieces = pieces_of(per_group, groups)
    values = np.random.default_rng(0).normal(size=(outputs, *kernel, pieces * 32)).astype(np.float32)
    mantissas, exponents = encode(values, fmt)
    return BlockWeights(fmt, mantissas, exponents, per_group)


def decoded(panels: Panels) -> np.ndarray:
    return decode_blocks(panels.mantissas, panels.exponents, FORMATS[panels.format])


def test_panels_hold_block_tap_input_block_and_lane():
    w = weights(40, 64, 1)
    panels = decoded(slab_panels(w, 1, cut(40, 64, 1)[0]))
    assert panels.shape == (2, 2, 3, 2, 32, 32)
    assert (panels[1, 0, 2, 1, 3] == w.decode()[35, 0, 2, 1]).all()
    assert not panels[1, :, :, :, 8:].any()  # absent outputs


def test_absent_outputs_are_blocks_of_the_smallest_exponent():
    panels = slab_panels(weights(40, 32, 1), 1, cut(40, 32, 1)[0])
    assert (panels.exponents[1, ..., 8:] == 127 - 48).all()


def test_a_straddling_group_has_its_weights_in_the_lanes_of_its_stored_blocks():
    w = weights(64, 48, 2)
    first, second = (slab_panels(w, 2, slab) for slab in slabs(64, 48, 2))
    assert (decoded(first)[0, :, :, :, 5] == w.decode()[5]).all()
    assert (decoded(second)[0, :, :, :, 5] == w.decode()[37]).all()


def test_a_group_is_zero_where_its_block_holds_others():
    w = weights(96, 24, 3)
    _, second, _ = slabs(96, 24, 3)
    panels = decoded(slab_panels(w, 3, second))  # outputs 32..63 are group 1, channels 24..47
    assert panels.shape[3] == 2
    assert (panels[0, :, :, 0, 1] == w.decode()[33, :, :, 0]).all()


def test_selection_picks_one_lane_with_weight_one():
    panels = decoded(selection([33, 0, 63], 2))
    assert panels.shape == (1, 1, 1, 2, 32, 32)
    assert panels.sum() == 3
    assert panels[0, 0, 0, 1, 0, 1] == panels[0, 0, 0, 0, 1, 0] == panels[0, 0, 0, 1, 2, 31] == 1


def test_ones_sum_each_channel_by_itself():
    assert (decoded(ones(2, (2, 1))) == np.eye(32)).all()


@pytest.mark.parametrize("fmt", [BFP5, BFP8])
def test_a_chunk_is_packed_as_the_instruction_reads_it(fmt):
    panels = slab_panels(weights(70, 64, 1, (3, 2), fmt), 1, cut(70, 64, 1)[0])
    part = Part((1, 3), (0, 1), (1, 2))
    chunk = WeightChunk(panels, (1, 3), part)
    data = np.frombuffer(chunk.to_bytes(), np.uint8).reshape(chunk.count, 32 * fmt.block_bytes + 32)
    assert chunk.count == 2 * part.steps == 4
    mantissas = unpack(data[:, :-32].reshape(4, 32, -1), fmt)
    expected = panels.mantissas[1:3, 1:3, 0:1, 1:2].reshape(4, 32, 32)
    assert (mantissas == expected).all()
    assert (data[:, -32:] == panels.exponents[1:3, 1:3, 0:1, 1:2].reshape(4, 32)).all()


def test_constants_are_packed_one_after_the_other():
    bias, scale = np.full((3, 32), 1, np.float32), np.full((3, 32), 2, np.float32)
    chunk = ConstantChunk(Epilogue(bias=bias, scale=scale, shift=-scale), (1, 3))
    values = np.frombuffer(chunk.to_bytes(), "<f4").reshape(-1, 32)
    assert chunk.count == 6 and chunk.offsets == {"bias": 0, "scale": 2, "shift": 4}
    assert values[:, 0].tolist() == [1, 1, 2, 2, -2, -2]
