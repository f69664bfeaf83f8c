"""Each kind of instruction with random fields: the NPU's Verilog gives the bytes of the reference device."""

from functools import cache

import pytest

from gatecast.cosim import MemoryTiming, RtlDevice
from gatecast.isa import FORMAT_NAMES
from gatecast.isa import KINDS as ALL_KINDS

from .random_programs import KINDS, random_program

pytestmark = pytest.mark.slow

SEEDS = range(60)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_random_fields_give_the_bytes_of_the_reference_device(kind, seed, both):
    program, inputs = random_program(kind, seed)
    found, expected = both(program, inputs, seed)
    assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_timing_of_memory_changes_cycles_alone(kind, both, tools):
    program, inputs = random_program(kind, 3)
    results, cycles = set(), set()
    for seed in range(8):
        timing = MemoryTiming(latency=1 + 11 * seed, rate=1 - seed / 10, stalls=seed / 10, seed=seed)
        loaded = RtlDevice(timing=timing).load(program)
        results.add(loaded.run(inputs))
        cycles.add(loaded.report["cycles"])
        loaded.close()
    assert results == {both(program, inputs)[1]}
    assert len(cycles) > 4


def test_a_second_run_gives_the_same_bytes_in_the_same_cycles(tools):
    program, inputs = random_program("convolve", 5)
    loaded = RtlDevice().load(program)
    first, counted = loaded.run(inputs), loaded.report
    assert loaded.run(bytes(len(inputs))) is not None
    assert loaded.run(inputs) == first
    assert loaded.report["cycles"] == counted["cycles"]
    loaded.close()


@cache
def reached():
    """Instructions of all random Programs, by kind."""
    text = [i for kind in KINDS for seed in SEEDS for i in random_program(kind, seed)[0].text]
    return {kind: [i for i in text if i.name == kind] for kind in {i.name for i in text}}


class TestTheRandomPrograms:
    """They reach what they should reach."""

    def test_every_instruction(self):
        assert set(reached()) == {kind.name for kind in ALL_KINDS}

    @pytest.mark.parametrize("kind", ["convolve", "pool", "map"])
    def test_every_flag_operation_and_activation(self, kind):
        for field in reached()[kind][0].kind.own:
            if field.bits == 1 or field.name in ("operation", "activation"):
                expected = 2 if field.bits == 1 else field.limits[1] + 1
                assert len({getattr(i, field.name) for i in reached()[kind]}) == expected, field.name

    @pytest.mark.parametrize(
        ("kind", "view"),
        [("load", "out"), ("store", "in"), ("convolve", "out"), ("convolve", "residual"), ("pool", "out"),
         ("map", "a"), ("map", "b"), ("map", "out")],
    )  # fmt: skip
    def test_every_format_of_a_view(self, kind, view):
        names = {FORMAT_NAMES[getattr(i, f"{view}_format")] for i in reached()[kind]}
        assert names >= {"float32", "bfp4", "bfp5", "bfp6", "bfp7", "bfp8"}

    def test_outputs_are_not_all_zero(self, both):
        program, inputs = random_program("convolve", 0)
        assert any(both(program, inputs)[1])

    def test_a_program_is_the_same_each_time(self):
        assert random_program("map", 1)[0].to_bytes() == random_program("map", 1)[0].to_bytes()
