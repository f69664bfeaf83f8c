"""Times of layers, on a network of the zoo."""

import numpy as np
import pytest

from gatecast.compiler import compile as compile_graph
from gatecast.errors import DeviceError
from gatecast.quantization import quantize
from gatecast.runtime import Roof, open_session, profile
from gatecast.runtime.profiling import LayerTime, layer_times, touched_bytes
from gatecast.zoo import network

pytest.importorskip("gatecast._native", reason="needs the extension gatecast._native")


def fashion():
    known = network("fashion")
    return known.build(known.random_arrays())


@pytest.fixture(scope="module")
def artifact():
    return compile_graph(quantize(fashion(), "bfp8"), "software")


@pytest.fixture(scope="module")
def inputs(artifact):
    (port,) = artifact.interface.inputs
    return {port.name: np.full((1, *artifact.shapes[port.value]), 0.5, np.float32)}


def test_each_layer_of_the_device_has_a_time(artifact, inputs):
    with open_session(artifact, "software", threads=1) as session:
        found = profile(session, inputs, 5)
    on_device = {layer.name for layer in artifact.layers if layer.tiles}
    assert on_device <= {layer.name for layer in found.layers}
    for layer in found.layers:
        assert layer.us > 0 or not layer.macs
    assert sum(layer.macs for layer in found.layers) == sum(layer.macs for layer in artifact.layers)


def test_the_roof_is_that_of_what_ran(artifact, inputs):
    with open_session(artifact, "software", threads=1) as session:
        _, (times,) = session.run_timed(inputs)
        report = next(iter(times.reports.values()))
        roof = profile(session, inputs, 1).roof
    assert (roof.instruction_set, roof.threads) == (report["instruction_set"], 1)
    assert roof.gbytes_per_s > 0.1
    assert roof.gmacs_per_s is None or roof.gmacs_per_s > 1


def test_times_do_not_change_results(artifact, inputs):
    with open_session(artifact, "software", threads=1) as session:
        (name,) = [port.name for port in session.interface.outputs]
        before = session.run(inputs)[name]
        assert all((times >= 0).all() for times in session.instruction_times(inputs).values())
        assert np.array_equal(session.run(inputs)[name], before)


def test_instructions_add_up_to_their_layers_medians(artifact):
    (program,) = [stage.program for stage in artifact.stages if hasattr(stage, "program")]
    (name,) = [stage.name for stage in artifact.stages if hasattr(stage, "program")]
    runs = [{name: np.full(len(program.text), 1000.0 * n)} for n in (1, 2, 9)]
    for layer in layer_times(artifact, runs):
        own = [
            i
            for i in program.body
            if i.name not in ("end", "sync") and program.layer_name(i.layer) == layer.name
        ]
        assert layer.us == 2.0 * len(own)
        assert layer.touched == sum(touched_bytes(program, i) for i in own)


def test_a_device_that_does_not_tell_is_named(artifact, inputs):
    with open_session(artifact, "reference") as session, pytest.raises(DeviceError) as caught:
        profile(session, inputs, 1)
    assert "must tell the times of instructions" in str(caught.value)
    assert caught.value.hint == "Use `--device software`."


def test_a_network_of_the_host_alone_has_no_layers_on_a_device(inputs):
    whole = compile_graph(fashion(), "software")
    with (
        open_session(whole, "software") as session,
        pytest.raises(DeviceError, match="not on the host alone"),
    ):
        profile(session, inputs, 1)


def test_products_or_bytes_limit_a_layer():
    roof = Roof("avx2", 1, 100.0, 10.0)
    assert roof.least_us(1_000_000, 1000) == pytest.approx(10.0)
    assert roof.least_us(1_000_000, 1_000_000) == pytest.approx(100.0)
    layer = LayerTime("x", "Convolution", 1_000_000, 1_000_000, 200.0)
    assert layer.attainable(roof) == pytest.approx(10.0)
    assert layer.share(roof) == pytest.approx(0.5)
    assert LayerTime("x", "Concat", 0, 0, 0.0).share(roof) is None
