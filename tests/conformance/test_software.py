"""Equalities 3 and 5: the software device gives the bytes of the reference, however it runs.

Ref: docs/spec/numerics.md §6.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.compiler.running import compiled, small
from tests.devices.all_tiles import TILED, all_tiles, software
from tests.random_graphs import random_graph, random_input

import gatecast
from gatecast.devices import open_device
from gatecast.errors import CompileError, ProgramError
from gatecast.graph import evaluate_values
from gatecast.isa import architecture, pack_inputs, verify
from gatecast.quantization import quantize
from gatecast.zoo import load

from .chain_programs import chain_program
from .random_programs import KINDS, random_program
from .wide_programs import wide_program

VARIANTS = [(name, threads) for name in software.instruction_sets() for threads in (1, 2)]
SIZES = [architecture("software"), architecture("tiny"), small(60, 20, 40), small(200, 40, 100)]


def assert_same(program, inputs, variants=VARIANTS):
    expected = open_device("reference").load(program).run(inputs)
    for name, threads in variants:
        loaded = software.SoftwareDevice(threads, name).load(program)
        assert loaded.run(inputs) == expected, (name, threads)
        loaded.close()
        if name == TILED:
            with all_tiles():
                loaded = software.SoftwareDevice(threads, name).load(program)
            assert loaded.run(inputs) == expected, (name, threads, "all tiles")
            loaded.close()


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("kind", KINDS)
def test_random_fields(kind, seed):
    assert_same(*random_program(kind, seed))


@pytest.mark.parametrize("seed", range(80))
def test_random_fields_of_convolutions_of_many_pixels(seed):
    assert_same(*wide_program(seed))


@pytest.mark.skipif(TILED not in software.instruction_sets(), reason=f"needs a processor with {TILED}")
def test_many_of_these_run_by_tiles():
    found = [software.SoftwareDevice(1, TILED).load(wide_program(seed)[0]) for seed in range(80)]
    assert sum(loaded._native.tilings > 0 for loaded in found) > 25


@pytest.mark.parametrize("seed", range(100))
def test_chains_of_instructions_in_little_memory(seed):
    assert_same(*chain_program(seed))


@pytest.mark.skipif(TILED not in software.instruction_sets(), reason=f"needs a processor with {TILED}")
def test_many_of_these_keep_maps_for_tiles():
    with all_tiles():
        found = [software.SoftwareDevice(1, TILED).load(chain_program(seed)[0]) for seed in range(100)]
    kept = [loaded._native.kept_maps for loaded in found]
    assert sum(count > 0 for count in kept) > 25 and max(kept) > 2


@pytest.mark.parametrize("formats", ["bfp8", "bfp5/bfp6", "bfp4"])
@pytest.mark.parametrize("seed", range(12))
def test_random_networks_in_any_tiles(seed, formats):
    graph = quantize(random_graph(seed, steps=4), formats)
    values = evaluate_values(graph, random_input(graph, seed))
    for sizes in SIZES:
        try:
            sections = compiled(graph, sizes)
        except CompileError:
            continue  # it does not fit
        for program in (section.program for section in sections):
            tensors = {port.name: values[port.name].reshape(port.shape) for port in program.inputs}
            assert_same(program, pack_inputs(program, tensors), VARIANTS[:: len(VARIANTS) - 1])


@pytest.mark.parametrize("seed", range(300))
def test_damaged_programs_are_refused_or_give_the_same_bytes(seed):
    """One field of one instruction changed: the verifier sees it, or both devices agree."""
    assert_damage_is_seen(seed, *random_program(KINDS[seed % 3], seed % 20))


@pytest.mark.parametrize("seed", range(100))
def test_damaged_convolutions_of_many_pixels_are_refused_or_give_the_same_bytes(seed):
    assert_damage_is_seen(seed, *wide_program(seed % 40))


@pytest.mark.parametrize("seed", range(100))
def test_damaged_chains_are_refused_or_give_the_same_bytes(seed):
    assert_damage_is_seen(seed, *chain_program(seed % 40))


def assert_damage_is_seen(seed, program, inputs):
    damaged = damage(np.random.default_rng(seed), program)
    if damaged is None or damaged.inputs_bytes != len(inputs):
        return
    assert_same(damaged, inputs, [VARIANTS[0], VARIANTS[-1]])


def damage(rng, program):
    """The Program with one field changed; None where that makes it invalid."""
    number = int(rng.integers(len(program.text)))
    instruction = program.text[number]
    fields = [field for field in instruction.kind.own if field.kind != "float32"]
    if not fields:
        return None
    field = fields[int(rng.integers(len(fields)))]
    low, high = field.limits
    value = int(
        np.clip(getattr(instruction, field.name) + rng.choice([-2, -1, 1, 2, 40, 1 << 20]), low, high)
    )
    try:
        text = list(program.text)
        text[number] = instruction.replace(**{field.name: value})
        changed = replace(program, text=text)
        verify(changed)
    except ProgramError:
        return None
    return changed


def test_damage_is_not_always_refused():
    found = [
        damage(np.random.default_rng(seed), random_program(KINDS[seed % 3], seed % 20)[0])
        for seed in range(300)
    ]
    assert sum(program is not None for program in found) > 30


def whole(network, formats):
    graph = quantize(load(network), formats)
    artifact = gatecast.compile(graph, target="software")
    rng = np.random.default_rng(0)
    for program in (stage.program for stage in artifact.stages if hasattr(stage, "program")):
        tensors = {port.name: rng.normal(size=port.shape).astype(np.float32) for port in program.inputs}
        assert_same(program, pack_inputs(program, tensors))


@pytest.mark.parametrize("formats", ["bfp8", "bfp6", "bfp5/bfp6", "bfp4"])
def test_the_carried_network(formats):
    whole("fashion", formats)


@pytest.mark.slow
@pytest.mark.parametrize("formats", ["bfp8", "bfp5/bfp6"])
def test_resnet50(formats, monkeypatch):
    if "GATECAST_TEST_DATA" not in os.environ:
        pytest.skip("GATECAST_TEST_DATA is not set: no weights of ResNet-50")
    monkeypatch.setenv("GATECAST_WEIGHTS", str(Path(os.environ["GATECAST_TEST_DATA"]) / "weights"))
    whole("resnet50", formats)
