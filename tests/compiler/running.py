"""Runs the device sections of a compiled network on the reference device."""

from dataclasses import replace

import numpy as np

from gatecast.compiler.partition import partition
from gatecast.compiler.pipeline import Compiled, compile_section
from gatecast.devices import open_device
from gatecast.graph import Graph, evaluate_values
from gatecast.isa import Architecture, Program, architecture, pack_inputs, unpack_outputs


def small(blocks: int = 128, panels: int = 24, vectors: int = 64) -> Architecture:
    """`tiny` with other memories."""
    sizes = {"activation_blocks": blocks, "weight_panels": panels, "vectors": vectors}
    return replace(architecture("tiny"), name=f"small_{blocks}_{panels}_{vectors}", **sizes)


def inputs_of(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs."""
    random = np.random.default_rng(seed)
    return {value.name: random.normal(size=value.shape).astype(np.float32) for value in graph.inputs}


def compiled(graph: Graph, sizes: Architecture) -> list[Compiled]:
    """Device sections of a quantised graph, compiled."""
    sections = [section for section in partition(graph) if section.on_device]
    return [compile_section(section, sizes, "test") for section in sections]


def run(program: Program, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a Program that reads some of `values`, each (rows, columns, channels)."""
    tensors = {port.name: values[port.name].reshape(port.shape) for port in program.inputs}
    return unpack_outputs(program, open_device("reference").load(program).run(pack_inputs(program, tensors)))


def assert_equal(graph: Graph, sizes: Architecture, seed: int = 0) -> list[Compiled]:
    """Each device section gives the bytes of the evaluator, fed with the evaluator's own values."""
    expected = evaluate_values(graph, inputs_of(graph, seed))
    sections = compiled(graph, sizes)
    for section in sections:
        for name, found in run(section.program, expected).items():
            wanted = expected[name].reshape(found.shape)
            assert found.tobytes() == wanted.tobytes(), f"{name} of {graph.name} for {sizes.name}"
    return sections
