"""`gatecast inspect`: what a file is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gatecast.artifact import Artifact, HostStage, ImageStage, ProgramStage, Stage
from gatecast.errors import FileError
from gatecast.graph import (
    BlockWeights,
    Convolution,
    Encode,
    Graph,
    InputPort,
    Interface,
    Layer,
    MatMul,
    OutputPort,
    Signature,
)
from gatecast.interchange import load
from gatecast.numerics import FormatPair

from . import options
from .layers import print_layers
from .terminal import print_json, print_table, print_text, size

_ARTIFACT = b"GCARTFCT"


@click.command("inspect")
@options.network("FILE")
@options.as_json
def command(network: options.Network, json_: bool) -> None:
    """Show what a network or an artifact is: signature, layers, formats, provenance.

    FILE is an ONNX network, a TensorFlow SavedModel or frozen graph, or a .gcast artifact; its first bytes
    tell which.
    """
    if _is_artifact(network.path):
        _inspect_artifact(network.path, Artifact.load(network.path), json_)
    else:
        graph = load(network.path, network.inputs, network.outputs)
        _inspect_network(network.path, graph, json_)


def _is_artifact(source: Path) -> bool:
    if source.is_dir():
        return False
    try:
        with source.open("rb") as file:
            return file.read(len(_ARTIFACT)) == _ARTIFACT
    except OSError as error:
        raise FileError(f"File {source} cannot be read: {error.strerror}", hint="Check the path.") from error


def _inspect_artifact(source: Path, artifact: Artifact, json_: bool) -> None:
    if json_:
        print_json(
            {
                "kind": "artifact",
                "signature": artifact.signature.to_json(),
                "name": artifact.name,
                "formats": artifact.formats,
                "target": artifact.target,
                "interface": artifact.interface.to_json(),
                "stages": [_stage(stage) for stage in artifact.stages],
                "layers": [vars(layer) for layer in artifact.layers],
                "provenance": dict(artifact.provenance),
            }
        )
        return
    _print_head(
        source, "artifact", artifact.name, [("formats", artifact.formats), ("target", artifact.target)]
    )
    _print_signature(artifact.signature, artifact.interface)
    stages = [_stage(stage) for stage in artifact.stages]
    print_table(
        ("stage", "kind", "reads", "makes", "what"),
        [(s["name"], s["kind"], _some(s["inputs"]), _some(s["outputs"]), s["what"]) for s in stages],
    )
    print_text("")
    print_layers(artifact)
    print_text("")
    for key, value in artifact.provenance.items():
        print_text(f"{key:16} {value}")


def _stage(stage: Stage) -> dict[str, Any]:
    match stage:
        case ImageStage():
            return {
                "name": stage.port,
                "kind": "image",
                "inputs": [stage.port],
                "outputs": [stage.value],
                "what": stage.preprocessing.name,
            }
        case HostStage():
            kind, what = "host", f"ONNX, {size(len(stage.model))}"
        case ProgramStage():
            program = stage.program
            kind = "device"
            what = f"{len(program.text)} instructions, {size(len(program.weights))} of weights"
    return {
        "name": stage.name,
        "kind": kind,
        "inputs": list(stage.inputs),
        "outputs": list(stage.outputs),
        "what": what,
    }


def _inspect_network(source: Path, graph: Graph, json_: bool) -> None:
    layers = [_layer(graph, layer) for layer in graph.layers]
    if json_:
        print_json(
            {
                "kind": "network",
                "signature": graph.signature.to_json(),
                "name": graph.name,
                "quantized": graph.is_quantized,
                "interface": graph.interface.to_json(),
                "layers": layers,
            }
        )
        return
    kind = "quantised network" if graph.is_quantized else "float network"
    _print_head(source, kind, graph.name, [])
    _print_signature(graph.signature, graph.interface)
    print_table(
        ("layer", "kind", "reads", "makes", "formats"),
        [(x["name"], x["kind"], _some(x["inputs"]), x["shape"], x["formats"]) for x in layers],
    )


def _layer(graph: Graph, layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": type(layer).__name__,
        "inputs": list(layer.inputs),
        "shape": list(graph.shapes[layer.name]),
        "formats": _formats(graph, layer),
    }


def _some(names: Sequence[str], most: int = 3) -> str:
    """The first few of a list."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _formats(graph: Graph, layer: Layer) -> str:
    """Format of an encode, weights/activations of a layer with weights in blocks, else empty."""
    if isinstance(layer, Encode):
        return str(layer.format)
    if isinstance(layer, Convolution | MatMul) and isinstance(layer.weights, BlockWeights):
        source = graph.by_name.get(layer.inputs[0])
        if isinstance(source, Encode):
            return str(FormatPair(layer.weights.format, source.format))
    return ""


def _print_head(source: Path, kind: str, name: str, more: list[tuple[str, str]]) -> None:
    bytes_ = sum(file.stat().st_size for file in (source.rglob("*") if source.is_dir() else [source]))
    head = [("file", f"{source}, {size(bytes_)}"), ("kind", kind), ("name", name), *more]
    print_text("\n".join(f"{key:12} {value}" for key, value in head) + "\n")


def _print_signature(signature: Signature, interface: Interface) -> None:
    images = {
        port.name: f"{port.image.name}, {port.image.height} x {port.image.width} {port.image.channels}"
        for port in interface.inputs
        if port.image
    }
    ports: list[InputPort | OutputPort] = [*interface.inputs, *interface.outputs]
    layouts = {port.name: port.layout for port in ports}
    rows = [
        (side, spec.name, spec.dtype, list(spec.shape), layouts[spec.name], images.get(spec.name, ""))
        for side, specs in (("input", signature.inputs), ("output", signature.outputs))
        for spec in specs
    ]
    print_table(("port", "name", "dtype", "shape", "layout", "pictures"), rows)
    print_text("")
    if interface.labels:
        print_text(f"{'labels':12} {len(interface.labels)}: {_some(interface.labels)}\n")
