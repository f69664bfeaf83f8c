"""The network that the package carries: its Programs are as recorded, and compute what the graph says."""

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tests.compiler.running import run

from gatecast import zoo
from gatecast.artifact import ProgramStage
from gatecast.compiler import compile
from gatecast.graph import evaluate_values
from gatecast.isa import Program, assemble, listing, verify
from gatecast.quantization import quantize
from gatecast.runtime import decode_image


@pytest.fixture(scope="module")
def graph():
    return quantize(zoo.load("fashion"), "bfp8")


def program_of(graph, target: str) -> Program:
    (stage,) = [stage for stage in compile(graph, target).stages if isinstance(stage, ProgramStage)]
    return replace(stage.program, producer="test")  # the real one holds Gatecast's version


def summary(program: Program) -> str:
    """Digests, sizes and instruction counts: small enough to read in a review."""
    text = listing(program.text)
    counts = Counter(instruction.kind.name for instruction in program.text)
    lines = [
        f"listing SHA-256  {hashlib.sha256(text.encode()).hexdigest()}",
        f"Program SHA-256  {hashlib.sha256(program.to_bytes()).hexdigest()}",
        f"instructions     {len(program.text)}, {program.prologue} of them once",
        f"weights          {len(program.weights)} bytes",
        f"workspace        {program.workspace_bytes} bytes",
        *(f"{kind:<16} {number}" for kind, number in sorted(counts.items())),
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("target", ["software", "tiny", "ecp5_85f"])
def test_its_program_is_as_recorded(graph, target, golden):
    program = program_of(graph, target)
    verify(program)
    assert assemble(listing(program.text)) == program.text
    assert Program.from_bytes(program.to_bytes()).text == program.text
    golden(f"compiler/fashion_{target}.txt", summary(program))


@pytest.mark.parametrize("target", ["software", "tiny", "ecp5_85f"])
def test_a_picture_gives_the_bytes_of_the_graph(graph, target):
    (port,) = graph.interface.inputs
    picture = decode_image(zoo.samples("fashion")[0].data, port.image)
    expected = evaluate_values(graph, {port.value: picture})
    outputs = run(program_of(graph, target), expected)
    assert outputs.keys() == {"fc"}
    for name, found in outputs.items():
        assert found.tobytes() == expected[name].reshape(found.shape).tobytes()
    assert int(np.argmax(expected["probabilities"])) == zoo.samples("fashion")[0].index
