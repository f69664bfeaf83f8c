"""Compiled networks: the NPU's Verilog gives the bytes of the reference device."""

import pytest
from tests.compiler.networks import NETWORKS
from tests.compiler.running import compiled, inputs_of
from tests.random_graphs import random_graph, random_input

from gatecast import zoo
from gatecast.compiler import compile
from gatecast.errors import CompileError
from gatecast.graph import evaluate_values
from gatecast.isa import architecture, pack_inputs
from gatecast.quantization import quantize
from gatecast.runtime import open_session

pytestmark = pytest.mark.slow

TINY = architecture("tiny")
FORMATS = ("bfp8", "bfp6", "bfp5/bfp6", "bfp4")


def equal_sections(graph, values, both, seed):
    """Run each device section on both devices, fed with the evaluator's values; return their number."""
    expected = evaluate_values(graph, values)
    sections = compiled(graph, TINY)
    for section in sections:
        program = section.program
        tensors = {port.name: expected[port.name].reshape(port.shape) for port in program.inputs}
        found, wanted = both(program, pack_inputs(program, tensors), seed)
        assert found == wanted, graph.name
    return len(sections)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_form_of_layer(name, both):
    seed = list(NETWORKS).index(name)
    graph = quantize(NETWORKS[name](), FORMATS[seed % 3])
    try:
        equal_sections(graph, inputs_of(graph), both, seed)
    except CompileError as error:
        pytest.skip(f"does not fit tiny: {error}")


@pytest.mark.parametrize("seed", range(24))
def test_random_networks(seed, both):
    graph = quantize(random_graph(seed), FORMATS[seed % 4])
    try:
        equal_sections(graph, random_input(graph, seed), both, seed)
    except CompileError as error:
        assert "tiny" in str(error)


@pytest.mark.parametrize("formats", FORMATS[:3])
@pytest.mark.parametrize("target", ["tiny", "ecp5_85f"])
def test_the_carried_network_whole_on_real_pictures(target, formats, tools):
    artifact = compile(quantize(zoo.load("fashion"), formats), target)
    pictures = [sample.data for sample in zoo.samples("fashion")[: 1 if target == "tiny" else 3]]
    with (
        open_session(artifact, device="reference") as reference,
        open_session(artifact, device="rtl") as rtl,
    ):
        expected = reference.run({"images": pictures})
        found, times = rtl.run_timed({"images": pictures})
    assert {name: values.tobytes() for name, values in found.items()} == {
        name: values.tobytes() for name, values in expected.items()
    }
    for time in times:
        (report,) = time.reports.values()
        assert report["instructions"] == sum(layer["instructions"] for layer in report["layers"].values())
        assert report["products"] < report["cycles"]
