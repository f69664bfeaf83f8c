"""`compile`: stages, reports, provenance, errors."""

import re
from dataclasses import replace

import numpy as np
import pytest
from tests.compiler.networks import NETWORKS
from tests.compiler.running import small

from gatecast.artifact import HostStage, ImageStage, ProgramStage
from gatecast.compiler import compile, network_digest
from gatecast.errors import CompileError, NotFoundError
from gatecast.graph import Convolution, Graph, Input, InputPort, Interface, OutputPort, Preprocessing
from gatecast.isa import architecture, listing
from gatecast.quantization import quantize
from gatecast.runtime import open_session


def quantized(name: str, formats: str = "bfp8"):
    return quantize(NETWORKS[name](), formats)


@pytest.mark.parametrize("target", ["software", "tiny"])
@pytest.mark.parametrize("name", ["residual", "host_between"])
def test_the_same_network_gives_the_same_bytes(name, target):
    first, second = (compile(quantized(name), target).to_bytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("target", ["software", "tiny"])
def test_assembly_of_a_residual_network_is_as_recorded(target, golden):
    (stage,) = compile(quantized("residual"), target).stages
    golden(f"compiler/residual_{target}.txt", listing(stage.program.text))


def test_a_float_network_is_one_host_stage():
    artifact = compile(NETWORKS["residual"]())
    (stage,) = artifact.stages
    assert isinstance(stage, HostStage)
    assert (artifact.formats, artifact.target) == ("float32", "software")
    assert {layer.where for layer in artifact.layers} == {"host"}


def test_stages_hand_values_on():
    artifact = compile(quantized("host_between"))
    assert [type(stage) for stage in artifact.stages] == [ProgramStage, HostStage, ProgramStage, HostStage]
    first, sigmoid, second, last = artifact.stages
    assert sigmoid.outputs == second.inputs[:1] == ("sigmoid",)
    assert last.outputs == ("softmax",)
    assert set(first.outputs) | {"sigmoid"} >= set(second.inputs)
    assert artifact.shapes["sigmoid"] == (4, 4, 32)


def test_a_session_of_mixed_stages_gives_what_the_graph_gives():
    graph = quantized("host_between")
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 32)).astype(np.float32)
    whole, tiles = (open_session(compile(graph, target)) for target in ("software", "tiny"))
    assert whole.run({"x0": x})["softmax"].tobytes() == tiles.run({"x0": x})["softmax"].tobytes()


def test_an_image_port_becomes_an_image_stage():
    graph = quantized("residual")
    picture = Preprocessing(name="p", height=8, width=8, channels="L")
    interface = Interface(
        inputs=(InputPort(name="image", value="x0", layout="NHWC", image=picture),),
        outputs=(OutputPort(name="scores", value="scores"),),
    )
    artifact = compile(replace(graph, interface=interface))
    assert artifact.stages[0] == ImageStage("image", "x0", picture)
    assert artifact.signature.inputs[0].dtype == "string"


def test_layers_are_reported_in_the_order_of_the_graph():
    graph = quantized("residual")
    artifact = compile(graph, "tiny")
    assert [layer.name for layer in artifact.layers] == [layer.name for layer in graph.layers]
    reports = {layer.name: layer for layer in artifact.layers}
    second, add = reports["second"], reports["add"]
    assert (second.kind, second.where, second.macs) == ("Convolution", "device", 64 * 64 * 64 * 9)
    assert second.weight_bytes == 64 * 9 * 2 * 33
    assert second.tiles > 1 and second.bytes > second.weight_bytes
    assert (add.where, add.tiles, add.macs) == ("device", 0, 0)


def test_what_is_moved_is_reported_to_the_byte():
    artifact = compile(quantized("residual"), "software")
    moved = {layer.name: layer.bytes for layer in artifact.layers if layer.bytes}
    assert moved == {"x0.bfp8": 8 * 8 * 33, "scores": 128}


def test_provenance_tells_producer_formats_target_and_network():
    graph = quantized("residual", "bfp5/bfp6")
    artifact = compile(graph, "tiny", provenance={"source": {"name": "r.onnx", "sha256": "00"}})
    assert artifact.formats == "bfp5/bfp6"
    assert artifact.provenance == {
        "formats": "bfp5/bfp6",
        "network_sha256": network_digest(graph),
        "producer": artifact.provenance["producer"],
        "source": {"name": "r.onnx", "sha256": "00"},
        "target": "tiny",
    }
    assert re.fullmatch(r"gatecast \d+\.\d+\.\d+", artifact.provenance["producer"])


def test_the_digest_of_a_network_sees_every_weight_and_not_its_ports():
    graph = quantized("residual")
    digest = network_digest(graph)
    assert network_digest(replace(graph, interface=replace(graph.interface, labels=("a",)))) == digest
    layers = [
        replace(layer, bias=layer.bias + np.float32(1e-3)) if layer.name == "first" else layer
        for layer in graph.layers
    ]
    assert network_digest(graph.with_layers(layers)) != digest


def test_layers_that_nothing_reads_are_dropped():
    graph = quantized("several_outputs")
    artifact = compile(replace(graph, outputs=("relu1",), interface=Interface(inputs=(), outputs=())))
    assert "head" not in {layer.name for layer in artifact.layers}


def test_an_unknown_target_is_named():
    with pytest.raises(NotFoundError, match="Architecture 'huge' is not known"):
        compile(quantized("residual"), "huge")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (small(blocks=0), "must fit the 0 blocks of activation memory of small_0_24_64, not need 2"),
        (small(panels=0), "must fit the 0 panels of weight memory of small_128_0_64, not need 9"),
        (small(vectors=0), "must fit the 0 vectors of vector memory of small_128_24_0, not need 1"),
    ],
)
def test_what_does_not_fit_is_named_with_its_layer(sizes, message):
    with pytest.raises(CompileError, match=f"Layer stem {message}") as error:
        compile(quantized("residual"), sizes)
    assert "--target software" in error.value.hint


def test_a_maximum_that_cannot_be_cut_is_refused():
    with pytest.raises(CompileError, match=r"Layer max must have a kernel that fits small_5_24_64"):
        compile(quantized("pools"), small(blocks=5))


def test_a_map_that_no_instruction_can_describe_is_refused():
    graph = quantize(wide(), "bfp8")
    with pytest.raises(CompileError, match="must fit an instruction: Field load.out_rows"):
        compile(graph)


def wide() -> Graph:
    weights = np.ones((1, 1, 1, 1), np.float32)
    layer = Convolution(name="wide", inputs=("x",), weights=weights)
    return Graph("wide", (Input("x", (65536, 1, 1)),), (layer,), ("wide",))


def test_a_target_for_narrow_formats_refuses_wide_ones():
    with pytest.raises(CompileError, match="must have activations of at most 5 bits for a10_bfp5, not bfp8"):
        compile(quantized("residual"), architecture("a10_bfp5"))
