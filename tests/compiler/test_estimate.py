"""The cycle model by itself; tests/conformance holds it to the RTL's counters."""

from dataclasses import replace

import pytest

from gatecast.compiler.cycles import cost
from gatecast.compiler.estimate import beats_a_cycle, estimate
from gatecast.compiler.tile_cycles import Ring, convolve_cycles, inside_taps
from gatecast.errors import CompileError
from gatecast.isa import Instruction, Program, Section, View, architecture, assemble

TINY, ECP5 = architecture("tiny"), architecture("ecp5_85f")
FOUR = replace(TINY, epilogue_values=4, vector_values=4)
PIXEL = {"out_rows": 1, "out_columns": 1, "out_blocks": 1}


def convolve(rows, columns, **fields):
    view = View(0, "bfp8", columns, 1)
    return Instruction(
        "convolve", **view.fields("in"), in_rows=rows, in_columns=columns, in_blocks=1, weight_format="bfp8",
        **replace(view, address=64).fields("out"), out_rows=rows, out_columns=columns, out_blocks=1, **fields,
    )  # fmt: skip


def program(text, sizes=ECP5):
    return Program(sizes, tuple(assemble(text)))


class TestTransfers:
    """Numbers are those that the RTL's counters show, with a memory of one beat a cycle and 16 of latency."""

    def test_a_panel_is_66_beats_and_a_narrow_one_fewer(self):
        def beats(name):
            return cost(Instruction("weights", format=name, count=1), ECP5).beats

        assert [beats(name) for name in ("bfp8", "bfp6", "bfp5", "bfp4")] == [66, 66, 66, 34]

    def test_a_block_is_its_mantissas_and_a_byte(self):
        load = Instruction(
            "load", section=Section.INPUTS, pixel_pitch=1, **View(0, "bfp8", 1, 1).fields("out"), **PIXEL
        )
        assert cost(load, ECP5).beats == 3
        assert cost(load.replace(offset=4), ECP5).beats == 4
        assert cost(load.replace(out_format="float32"), ECP5).beats == 8

    def test_a_store_takes_a_block_after_the_other(self):
        one = Instruction(
            "store", section=Section.OUTPUTS, pixel_pitch=1, **View(0, "bfp8", 1, 1).fields("in"),
            in_rows=1, in_columns=1, in_blocks=1,
        )  # fmt: skip
        two = one.replace(in_columns=2)
        first, second = (found.beats * found.pace for found in (cost(one, ECP5), cost(two, ECP5)))
        assert (first, second) == (8, 16)


class TestTiles:
    def test_steps_of_full_groups_take_a_turn_of_each_pixel(self):
        narrow, wide = (convolve_cycles(convolve(16, 16, kernel_rows=k), ECP5) for k in (9, 12))
        assert wide - narrow == 16 * 4 * 3 * 16  # groups, passes, more taps, pixels

    def test_small_groups_wait_for_the_adder(self):
        three, one = (convolve_cycles(convolve(1, 3, interleave=n, kernel_rows=9), ECP5) for n in (3, 1))
        group, block = 2 + 4 * (1 + 9 * 7), 16  # the last group has one block to end, not three
        assert one - three == 2 * group - 2 - 2 * block

    def test_a_short_sum_is_as_fast_as_the_epilogue(self):
        plain, scaled = (
            convolve_cycles(convolve(16, 16, **fields), ECP5) for fields in ({}, {"has_scale": 1, "shift": 8})
        )
        assert plain < 256 * 16 + 200
        assert scaled > 256 * 48

    def test_partial_sums_are_read_when_the_lanes_are_empty(self):
        fresh, resumed = (convolve_cycles(convolve(4, 4, resume=n), ECP5) for n in (0, 1))
        assert resumed > fresh + 4 * 16 * 4

    def test_result_memory_makes_groups_wait(self):
        ring = Ring(32)
        assert ring.take(16, 5) == ring.take(16, 5) == 5
        ring.freed.append((100, 20, 16))
        assert ring.take(3, 10) == 141
        assert ring.take(2, 10) == 181

    def test_taps_inside_the_map(self):
        i = convolve(5, 4, in_y=-1, kernel_rows=3, stride_y=2)
        assert inside_taps(i, "y", "rows").tolist() == [2, 3, 2, 0, 0]
        assert inside_taps(i.replace(dilation_y=2), "y", "rows").tolist() == [2, 2, 1, 0, 0]


class TestVectorUnit:
    def test_a_pass_is_no_shorter_than_an_operation(self):
        view = View(0, "bfp8", 4, 1)
        copy = Instruction(
            "map", **view.fields("a"), **replace(view, address=9).fields("out"), **PIXEL | {"out_columns": 4}
        )
        more = copy.replace(out_columns=8)
        two, four = (cost(more, sizes).before - cost(copy, sizes).before for sizes in (TINY, FOUR))
        assert (two, four) == (4 * 16, 4 * 11)

    def test_activations_and_scales_are_passes(self):
        view = View(0, "bfp8", 1, 1)
        plain = Instruction("map", **view.fields("a"), **replace(view, address=9).fields("out"), **PIXEL)
        hard = plain.replace(has_scale=1, shift=1, activation=5, low=0.2, high=0.5)
        assert cost(hard, TINY).before - cost(plain, TINY).before == 5 * 16


class TestPrograms:
    TEXT = """
        weights format=bfp8 count=4 signal(matrix)
        load section=2 row_pitch=64 exponents=64 exponent_pitch=64 pixel_pitch=1 out=@0:1:1:bfp8 out_rows=1 \
out_columns=1 out_blocks=1 signal(matrix)
        convolve in=@0:1:1:bfp8 in_rows=1 in_columns=1 in_blocks=1 weight_format=bfp8 out=@1:1:1:bfp8 \
out_rows=1 out_columns=1 out_blocks=1 wait(load,weights)
        end
    """

    def test_an_instruction_starts_when_the_last_token_is_there(self):
        found = estimate(program(self.TEXT))
        weights, load, convolve = found.spans
        assert convolve.start == max(weights.end, load.end) + 3
        assert found.cycles == round(convolve.end) + 1

    def test_a_map_waits_for_the_convolution_and_its_sums_for_a_map(self):
        """Both need the epilogue; lanes begin while a map still runs."""
        loads = self.TEXT.replace("end", "").replace("signal(matrix)", "signal(matrix,vector)")
        copy = "map a=@0:16:1:bfp8 out=@32:16:1:bfp8 out_rows=2 out_columns=16 out_blocks=1"
        after = estimate(program(f"{loads}{copy} wait(load,weights)\nend")).spans
        assert after[3].start == after[2].end + 3
        before = estimate(program(f"{copy}\n{loads}end")).spans
        alone = estimate(program(f"{loads}end")).spans
        assert before[3].start < before[0].end < before[3].end
        assert before[3].cycles > alone[2].cycles

    def test_users_of_memory_share_its_beats(self):
        together = estimate(program(self.TEXT)).spans
        alone = estimate(program("weights format=bfp8 count=4\nend")).spans
        assert together[0].cycles > alone[0].cycles

    def test_slow_memory_costs_its_beats(self):
        slow = replace(ECP5, memory_gbs=ECP5.clock_mhz * 8 / 1e3)
        assert (beats_a_cycle(ECP5), beats_a_cycle(slow), beats_a_cycle(TINY)) == (1, 0.5, 0.625)
        text = "weights format=bfp8 count=4\nend"
        fast, found = (estimate(program(text, sizes)).spans[0].cycles for sizes in (ECP5, slow))
        assert found - fast == pytest.approx(4 * 66, abs=8)

    def test_each_fetch_waits_for_memory(self):
        near, far = (
            estimate(program("sync unit=load\n" * 10 + "end"), latency).cycles for latency in (10, 30)
        )
        assert far - near == 20 * 11

    def test_software_has_no_cycles(self):
        with pytest.raises(
            CompileError, match="must say how many lanes it has to estimate cycles, not be software"
        ):
            estimate(program("end", architecture("software")))

    def test_a_token_that_never_comes_is_told(self):
        with pytest.raises(CompileError, match="must never wait for tokens that do not come"):
            estimate(program("sync unit=load wait(store)\nend"))
