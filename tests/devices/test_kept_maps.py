"""Maps that convolutions by tiles write for others, in lines of bfloat16: which ones, and that bits stay."""

import numpy as np
import pytest
from tests.conformance.chain_programs import SIZES
from tests.conformance.random_programs import Builder, outputs_of, view_of
from tests.devices.all_tiles import TILED, assert_equal_by_tiles, software

from gatecast.isa import View, pack_inputs, verify

pytestmark = pytest.mark.skipif(
    TILED not in software.instruction_sets(), reason=f"needs a processor with {TILED}"
)

ROWS, COLUMNS, BLOCKS = 9, 10, 2


class Network(Builder):
    """Convolutions of maps of 9 x 10 pixels and two blocks, each by its name in activation memory."""

    def __init__(self, *names, seed=0):
        super().__init__(np.random.default_rng(seed), SIZES)
        shape = (ROWS, COLUMNS, BLOCKS)
        loaded = self.load("x", shape, "bfp8")
        size = ROWS * COLUMNS * BLOCKS
        self.views = {"x": view_of(loaded, "x")}
        for number, name in enumerate(names, 1):
            self.views[name] = View(2 * size * (number + 1), "bfp8", COLUMNS * BLOCKS, BLOCKS)

    def convolve(self, of, to, kernel=1, stride=1, residual=None, **given):
        """Also one whose result has fewer pixels than its view, with a stride; or that reads fewer rows."""
        b = self
        in_rows = given.get("in_rows", ROWS)
        rows, columns = (in_rows - 1) // stride + 1, (COLUMNS - 1) // stride + 1
        fields = {
            "in_rows": in_rows, "in_columns": COLUMNS, "in_y": -(kernel // 2), "in_x": -(kernel // 2),
            "kernel_rows": kernel, "kernel_columns": kernel, "stride_y": stride, "stride_x": stride,
            **outputs_of((rows, columns, BLOCKS)), "in_blocks": BLOCKS,
            "weight_format": "bfp8", "weights": b.panels(kernel**2 * BLOCKS**2, "bfp8"),
            "activation": 1, "has_bias": 1, "bias": b.constants(BLOCKS, -4, 4), **self.views[of].fields("in"),
        }  # fmt: skip
        if residual:
            fields |= self.views[residual].fields("residual")
        self.add("convolve", **fields | given, **self.views[to].fields("out"))
        return self

    def pool(self, of, to, rows=ROWS, kernel=1, operation=0):
        fields = {"in_rows": rows, "in_columns": COLUMNS, "kernel_rows": kernel, "kernel_columns": kernel}
        fields |= {"in_y": -(kernel // 2), "in_x": -(kernel // 2), "stride_y": 1, "stride_x": 1}
        fields |= {"operation": operation, "factor": operation / kernel**2}
        fields |= outputs_of((rows, COLUMNS, BLOCKS))
        self.add("pool", **fields, **self.views[of].fields("in"), **self.views[to].fields("out"))
        return self

    def map(self, of, to):
        fields = {"repeat_y": 1, "repeat_x": 1, "operation": 0, **self.views[of].fields("a")}
        fields |= outputs_of((ROWS, COLUMNS, BLOCKS))
        self.add("map", **fields, **self.views[to].fields("out"))
        return self

    def kept(self, result):
        """How many maps are kept, in a device that gives the reference's bytes."""
        program = self.program(self.views[result], (ROWS, COLUMNS, BLOCKS))
        verify(program)
        (kept,) = {n.kept_maps for n in assert_equal_by_tiles(program, pack_inputs(program, self.tensors))}
        return kept


def test_a_chain_keeps_all_but_its_end():
    assert Network("a", "b", "y").convolve("x", "a").convolve("a", "b", 3).convolve("b", "y").kept("y") == 3


@pytest.mark.parametrize("operation", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_pools_read_and_make_them(operation, seed):
    n = Network("a", "b", "y", seed=seed).convolve("x", "a", activation=0)
    assert n.pool("a", "b", kernel=3, operation=operation).convolve("b", "y").kept("y") == 3


def test_a_pool_of_blocks_makes_blocks():
    n = Network("a", "b", "y").map("x", "a").pool("a", "b", kernel=3)
    assert n.convolve("b", "y").kept("y") == 0


def test_a_residual_is_read_of_the_map_that_is_spread_for_an_input():
    n = Network("a", "b", "y").convolve("x", "a").convolve("a", "b", 3).convolve("b", "y", residual="a")
    assert n.kept("y") == 3


def test_a_residual_is_read_of_a_map_of_its_own():
    n = Network("a", "b", "y").convolve("x", "a").convolve("x", "b").convolve("b", "y", residual="a")
    assert n.kept("y") == 3
    n = Network("a", "b", "c", "y").convolve("x", "a").convolve("a", "b", 1, 2).convolve("x", "c")
    assert n.convolve("c", "y", residual="a").kept("y") == 4  # a stride leaves out pixels of `a`


@pytest.mark.parametrize("seed", range(8))
def test_margins_are_zeros_where_another_map_was(seed):
    """Weights of some seeds are so far apart that an error would be rounded away."""
    n = Network("a", "b", "c", "d", "e", "y", seed=seed).convolve("x", "a").convolve("a", "b")
    n.convolve("b", "c").convolve("c", "d").convolve("d", "e")
    assert n.convolve("e", "y", 3).kept("y") == 6  # `e` lies where `c` was


def test_a_map_of_which_a_part_is_written_anew_is_read_in_blocks():
    n = Network("a", "b", "c", "y").convolve("x", "a").map("x", "c").pool("c", "a", rows=4)
    assert n.convolve("a", "b", 3).convolve("b", "y").kept("y") == 1


@pytest.mark.parametrize("part", [{"in_rows": 4}, {"in_blocks": 1}])
def test_a_map_of_which_a_part_is_read_stays_in_blocks(part):
    n = Network("a", "b", "y").convolve("x", "a").convolve("a", "b", 3, **part).convolve("a", "y", 3)
    assert n.kept("y") == 1  # `x`


def test_a_result_in_place_of_its_residual():
    n = Network("a", "b").convolve("x", "a").convolve("a", "b", 3).convolve("b", "a", residual="a")
    assert n.convolve("a", "b").kept("b") == 4


def test_readers_with_strides_have_maps_of_their_own():
    n = Network("a", "b", "c", "y").convolve("x", "a").convolve("a", "b", 1, 2).convolve("a", "c")
    assert n.convolve("c", "y").kept("y") == 4  # two of `a`; `b` is read by nobody


def test_too_many_kinds_of_readers():
    n = Network("a", "b", "c", "d", "y").convolve("x", "a").convolve("a", "b", 1, 2).convolve("a", "c", 3)
    n.convolve("a", "d", 3, 3)
    assert n.convolve("c", "y").kept("y") == 2  # not `a`


@pytest.mark.parametrize("reader", ["map", "store"])
def test_what_others_read_stays_in_blocks(reader):
    n = Network("a", "b", "c", "y").convolve("x", "a").convolve("a", "b")
    if reader == "map":
        assert n.map("a", "c").convolve("b", "y", residual="c").kept("y") == 2
    else:
        assert n.convolve("b", "y").kept("b") == 2


def test_what_lies_where_a_map_was_is_not_taken_for_it():
    """`p` lies upon the last half of `a`, which nobody needs any more."""
    n = Network("a", "b", "y").convolve("x", "a").convolve("a", "b")
    a = n.views["a"]
    n.views["p"] = View(a.address + ROWS * COLUMNS, "bfp8", a.row, a.pixel)
    n.convolve("b", "y").convolve("y", "p", 3).pool("p", "b")
    assert n.kept("b") == 5


@pytest.mark.parametrize("steps, kept", [(10, 2), (1000, 0)])
def test_what_is_still_there_after_many_steps_stays_in_blocks(steps, kept):
    n = Network("a", "b", "y").convolve("x", "a").convolve("a", "b")
    for _ in range(steps):
        n.map("x", "y")
    assert n.convolve("b", "y").kept("y") == kept  # `a` and `b`; others read `x`


def test_the_last_result_that_nobody_reads_is_not_kept():
    """Nor does the next run read it: it begins by writing there."""
    n = Network("a", "y").convolve("x", "a").convolve("a", "y").convolve("y", "a", 3)
    assert n.kept("y") == 2
