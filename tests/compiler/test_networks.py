"""Each form of an instruction, whole and in tiles: Program and evaluator give the same bytes."""

from collections import Counter

import pytest
from tests.compiler.networks import NETWORKS
from tests.compiler.running import assert_equal, compiled, small

from gatecast.compiler.partition import partition
from gatecast.isa import architecture
from gatecast.quantization import quantize


def kinds(network: str, sizes=None, formats: str = "bfp8") -> Counter[str]:
    """How many instructions of each kind the device sections have."""
    graph = quantize(NETWORKS[network](), formats)
    text = [i for part in compiled(graph, sizes or architecture("software")) for i in part.program.text]
    return Counter(instruction.name for instruction in text)


@pytest.mark.parametrize("formats", ["bfp8", "bfp5/bfp6"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_for_software_equals_the_graph(name, formats):
    assert_equal(quantize(NETWORKS[name](), formats), architecture("software"))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "sizes", [architecture("tiny"), small(400, 10, 30), small(128, 64, 64)], ids=lambda a: a.name
)
def test_a_program_in_tiles_equals_the_graph(name, sizes):
    assert_equal(quantize(NETWORKS[name](), "bfp8"), sizes)


@pytest.mark.parametrize("name", ["plain", "groups", "depthwise", "concat_of_odd_channels"])
@pytest.mark.parametrize("sizes", [small(8, 3, 4), small(30, 1, 6)], ids=lambda a: a.name)
def test_a_program_in_the_smallest_tiles_equals_the_graph(name, sizes):
    assert_equal(quantize(NETWORKS[name](), "bfp6"), sizes)


@pytest.mark.parametrize(
    ("name", "convolve", "pool", "map_"),
    [
        ("plain", 1, 0, 0),
        ("stride_dilation_and_uneven_pads", 2, 0, 0),
        ("depthwise", 2, 0, 0),
        ("groups", 1 + 3 + 1 + 2, 0, 0),  # where groups straddle blocks, one for each output block
        ("straddling_groups", 3, 0, 0),
        ("residual", 4, 1, 0),
        ("projection", 2, 0, 0),
        ("concat_of_whole_blocks", 3, 0, 0),
        ("concat_of_odd_channels", 4, 0, 1),  # gathered, then picked; a part that comes twice is copied
        ("dense_block", 5, 0, 3),
        ("slices", 1 + 4 + 1, 1, 0),
        ("pools", 4, 1 + 9 + 2 + 1, 0),
        ("sums_of_many", 4, 1, 3 + 2 + 1),
        ("squeeze_and_excite", 4, 1, 3),
        ("upsample", 2, 0, 1),
        ("activations", 3, 0, 2),
        ("matmul_of_a_map", 3, 0, 0),
    ],
)
def test_software_needs_one_instruction_for_each_layer(name, convolve, pool, map_):
    found = kinds(name)
    assert (found["convolve"], found["pool"], found["map"]) == (convolve, pool, map_)
    assert found["load"] == len(NETWORKS[name]().inputs)


def test_absent_channels_are_cleared_in_the_last_block_only():
    (part,) = compiled(quantize(NETWORKS["odd_groups_with_a_limit"](), "bfp8"), architecture("software"))
    convolutions = [i for i in part.program.text if i.name == "convolve"]
    assert [i.last_channels for i in convolutions] == [32, 51 - 32]


def test_software_loads_weights_in_the_prologue():
    (part,) = compiled(quantize(NETWORKS["residual"](), "bfp8"), architecture("software"))
    body = {instruction.name for instruction in part.program.body}
    assert body == {"load", "convolve", "pool", "store", "end"}
    assert {i.name for i in part.program.text[: part.program.prologue]} == {"weights", "constants", "end"}


def test_weights_that_fit_stay_from_run_to_run():
    graph = quantize(NETWORKS["projection"](), "bfp8")
    (part,) = compiled(graph, small(1000, 18 + 2, 16))
    assert not [i for i in part.program.body if i.name == "weights"]
    (part,) = compiled(graph, small(1000, 18 + 1, 16))
    assert len([i for i in part.program.body if i.name == "weights"]) > 1


def test_a_sum_that_exceeds_weight_memory_is_cut():
    text = [
        i
        for part in compiled(quantize(NETWORKS["plain"](), "bfp8"), small(128, 4, 64))
        for i in part.program.text
        if i.name == "convolve"
    ]
    assert any(i.suspend for i in text) and any(i.resume for i in text)
    assert all(i.kernel_rows == 1 for i in text)


def test_stages_alternate_between_host_and_device():
    sections = partition(quantize(NETWORKS["host_between"](), "bfp8"))
    assert [section.on_device for section in sections] == [True, False, True, False]


def test_a_value_that_is_not_rounded_does_not_leave_the_device():
    sections = partition(quantize(NETWORKS["late_residual"](), "bfp8"))
    assert [section.graph.outputs for section in sections] == [("first",), ("sigmoid",), ("relu5",)]


def test_a_float_graph_is_one_host_stage():
    (section,) = partition(NETWORKS["residual"]())
    assert not section.on_device and section.graph.outputs == ("scores",)
