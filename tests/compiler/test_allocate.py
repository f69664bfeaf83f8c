"""Addresses of areas."""

import pytest
from tests.compiler.running import small

from gatecast.compiler.allocate import allocate
from gatecast.compiler.steps import Area, Step, Tiled, check_tiled
from gatecast.compiler.tile import NoRoomError
from gatecast.errors import CompileError


def step(*areas: str, name: str = "map") -> Step:
    """A step that touches areas: `a` reads, the last one is written."""
    names = ("a_address", "b_address")[: len(areas) - 1] + ("out_address",)
    extent = {"out_rows": 1, "out_columns": 1, "out_blocks": 1, "out_format": "bfp8"}
    fields = {"a_format": "bfp8"} if len(areas) > 1 else {"a_format": "bfp8", "a_row": 1}
    fields |= {"b_format": "bfp8", "operation": 1} if len(areas) > 2 else {}
    return Step(
        name, "layer", 0, {**fields, **extent}, {n: (a, 0) for n, a in zip(names, areas, strict=True)}
    )


def addresses(sizes: dict[str, int], *steps: Step, blocks: int = 10) -> list[int]:
    """Address that each step writes."""
    areas = {name: Area(name, "activation", size) for name, size in sizes.items()}
    tiled = Tiled((), steps, areas)
    check_tiled(tiled)
    return [placed.instruction.out_address for placed in allocate(tiled, small(blocks)).body]


def test_areas_that_live_at_once_lie_apart():
    assert addresses({"x": 4, "y": 3, "z": 3}, step("x"), step("x", "y"), step("x", "y", "z")) == [0, 4, 7]


def test_a_place_is_used_again_when_its_area_is_dead():
    sizes = {"x": 4, "y": 3, "z": 4}
    assert addresses(sizes, step("x"), step("x", "y"), step("y", "z")) == [0, 4, 0]


def test_an_area_takes_the_first_gap_that_is_large_enough():
    sizes = {"x": 2, "y": 3, "z": 2, "w": 3}
    steps = (step("x"), step("x", "y"), step("x", "y", "z"), step("z", "w"))
    assert addresses(sizes, *steps) == [0, 2, 5, 0]


def test_what_does_not_fit_is_refused_with_its_operation():
    with pytest.raises(NoRoomError) as error:
        addresses({"x": 6, "y": 5}, step("x"), step("x", "y"))
    assert (error.value.memory, error.value.number, error.value.needed) == ("activation", 0, 5)


def test_weights_go_round_the_ring():
    areas = {f"w{i}": Area(f"w{i}", "weight", size) for i, size in enumerate((10, 10, 10))}
    fields = {"format": "bfp8"}
    steps = [Step("weights", "layer", 0, {**fields, "count": 10}, {"address": (name, 0)}) for name in areas]
    placed = allocate(Tiled((), tuple(steps), areas), small(panels=24)).body
    assert [p.instruction.address for p in placed] == [0, 10, 20]
    placed = allocate(Tiled((), (*steps, steps[0]), areas), small(panels=24)).body
    assert placed[2].instruction.address + 10 > 24  # wraps


def test_a_step_outside_its_area_is_refused():
    areas = {"x": Area("x", "activation", 4)}
    wrong = Step("map", "layer", 0, {}, {"out_address": ("x", 4)})
    with pytest.raises(CompileError, match="Field out_address of map, layer, must lie in area x"):
        check_tiled(Tiled((), (wrong,), areas))
