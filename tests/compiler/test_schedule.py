"""Waits and signals. Ref: docs/spec/isa.md §5."""

from dataclasses import replace

import pytest
from tests.compiler.networks import NETWORKS
from tests.compiler.running import compiled, small

from gatecast.compiler.allocate import Allocated, Placed
from gatecast.compiler.schedule import schedule
from gatecast.errors import ProgramError
from gatecast.isa import UNITS, Instruction, Program, architecture, unit_of, units, verify
from gatecast.quantization import quantize


def tokens(program: Program) -> list[tuple[int, str]]:
    """Each wait: number of the instruction, and unit."""
    return [
        (number, unit)
        for number, instruction in enumerate(program.text)
        for unit in UNITS
        if instruction.name != "end" and instruction.wait & units(unit)
    ]


def without(program: Program, number: int, unit: str) -> Program:
    """The Program without one wait and the signal that it takes."""
    text = list(program.text)
    own = unit_of(text[number])
    if own != unit:
        waits = [n for n, u in tokens(program) if u == unit and unit_of(text[n]) == own]
        signals = [
            n for n, i in enumerate(text) if i.name != "end" and unit_of(i) == unit and i.signal & units(own)
        ]
        at = signals[waits.index(number)]
        text[at] = text[at].replace(signal=text[at].signal & ~units(own))
    text[number] = text[number].replace(wait=text[number].wait & ~units(unit))
    return replace(program, text=tuple(text))


@pytest.mark.parametrize(
    ("network", "sizes"),
    [
        ("residual", architecture("software")),
        ("plain", architecture("tiny")),
        ("pools", small(300)),
        ("slices", small(100, 10, 30)),
        ("concat_of_odd_channels", small(60, 9, 20)),
    ],
)
def test_every_wait_is_needed(network, sizes):
    for section in compiled(quantize(NETWORKS[network](), "bfp8"), sizes):
        assert tokens(section.program)
        for number, unit in tokens(section.program):
            with pytest.raises(ProgramError, match="must be ordered after"):
                verify(without(section.program, number, unit))


def map_(out: int, a: int) -> Placed:
    view = {"a_address": a, "out_address": out}
    row = {"a_row": 1, "a_pixel": 1, "out_row": 1, "out_pixel": 1}
    extent = {"out_rows": 1, "out_columns": 1, "out_blocks": 1}
    return Placed(Instruction("map", a_format="bfp8", out_format="bfp8", **view, **row, **extent), "copy")


def load(address: int) -> Placed:
    fields = {"section": 2, "row_pitch": 64, "exponents": 64, "exponent_pitch": 64, "pixel_pitch": 1}
    view = {"out_address": address, "out_format": "bfp8", "out_row": 1, "out_pixel": 1}
    extent = {"out_rows": 1, "out_columns": 1, "out_blocks": 1}
    return Placed(Instruction("load", **fields, **view, **extent), "input")


def timed(*body: Placed) -> list[Instruction]:
    allocated = Allocated((), body, ("copy", "input"), 0)
    return [placed.instruction for placed in schedule(allocated, architecture("software")).body]


def test_a_reader_waits_for_the_writer_of_another_unit():
    first, second = timed(load(0), map_(1, 0))
    assert (first.signal, second.wait) == (units("vector"), units("load"))


def test_what_follows_in_the_unit_knows_already():
    assert [i.wait for i in timed(load(0), map_(1, 0), map_(2, 0))] == [0, units("load"), 0]


def test_one_token_for_two_writers_that_are_in_order():
    instructions = timed(load(0), load(1), map_(5, 1), map_(6, 0))
    assert [i.signal for i in instructions] == [0, units("vector"), 0, 0]


def test_a_unit_drains_only_where_it_meets_itself():
    assert [i.wait for i in timed(load(0), map_(1, 0), map_(2, 1), map_(3, 0), map_(4, 3))] == [
        0, units("load"), units("vector"), 0, units("vector"),
    ]  # fmt: skip


def test_a_writer_waits_for_earlier_readers():
    instructions = timed(load(0), map_(1, 0), load(0))
    assert (instructions[1].signal, instructions[2].wait) == (units("load"), units("vector"))


@pytest.mark.parametrize(("count", "single_file"), [(255, False), (256, True)])
def test_counters_never_pass_255(count, single_file):
    loads = [load(address) for address in range(count)]
    instructions = timed(*loads, *(map_(count + address, address) for address in range(count)))
    signals = sum(bool(i.signal) for i in instructions)
    assert signals == (1 if single_file else count)


def weights(address: int, count: int) -> Placed:
    return Placed(Instruction("weights", format="bfp8", address=address, count=count), "w")


def convolve(address: int, panels: int) -> Placed:
    fields = {"in_format": "bfp8", "in_rows": 1, "in_columns": 1, "in_blocks": panels, "weights": address}
    out = {"out_format": "bfp8", "out_address": 100, "out_rows": 1, "out_columns": 1, "out_blocks": 1}
    return Placed(Instruction("convolve", weight_format="bfp8", **fields, **out), "c")


def order(*body: Placed) -> list[str]:
    """Instructions by kind and address of weights, in the order of the scheduled text."""
    sizes = small(1000, 10, 10)
    return [
        f"{p.layer}{p.instruction.address if p.layer == 'w' else p.instruction.weights}"
        for p in schedule(Allocated((), body, ("w", "c"), 0), sizes).body
    ]


def test_weights_are_loaded_while_those_before_them_are_used():
    body = [weights(0, 4), convolve(0, 4), weights(4, 4), convolve(4, 4), weights(8, 4), convolve(8, 4)]
    assert order(*body) == ["w0", "w4", "c0", "w8", "c4", "c8"]


def test_weights_that_do_not_fit_beside_those_in_use_come_after_them():
    body = [weights(0, 6), convolve(0, 6), weights(6, 6), convolve(6, 6)]
    assert order(*body) == ["w0", "c0", "w6", "c6"]
