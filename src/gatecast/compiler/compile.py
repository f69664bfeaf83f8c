"""`compile`: Graph to Artifact."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from gatecast import __version__
from gatecast.artifact import Artifact, HostStage, ImageStage, ProgramStage, Stage
from gatecast.graph import BlockWeights, Graph, InputPort, Interface, Layout, OutputPort, Shape
from gatecast.interchange import to_onnx
from gatecast.isa import Architecture, architecture
from gatecast.numerics import Format

from .partition import Section, partition
from .pipeline import compile_section
from .report import formats_of, layer_reports

PRODUCER = f"gatecast {__version__}"


def compile(
    graph: Graph, target: str | Architecture = "software", provenance: Mapping[str, Any] | None = None
) -> Artifact:
    """Return `graph` as an Artifact for `target`; a float graph runs on the host as a whole.

    Parameters
    ----------
    graph : Graph
    target : str or Architecture
    provenance : mapping, optional
        Plain data to keep with the model, such as the name and digest of the file that it came from.

    Raises
    ------
    NotFoundError
        No Architecture has the name `target`.
    CompileError
        A layer does not fit the Architecture; layer, memory and need are named.
    """
    sizes = architecture(target) if isinstance(target, str) else target
    sections = partition(graph)
    stages = [_stage(section, sizes) for section in sections]
    images = [
        ImageStage(port.name, port.value, port.image)
        for port in graph.interface.inputs
        if port.image is not None
    ]
    programs = [stage.program for stage in stages if isinstance(stage, ProgramStage)]
    on_device = {layer.name: s.on_device for s in sections for layer in s.graph.layers}
    formats = formats_of(graph)
    return Artifact(
        name=graph.name,
        stages=(*images, *stages),
        interface=graph.interface,
        signature=graph.signature,
        shapes=_crossing(graph, stages),
        formats=formats,
        target=sizes.name,
        layers=layer_reports(graph, on_device, programs),
        provenance={
            **(provenance or {}),
            "formats": formats,
            "network_sha256": network_digest(graph),
            "producer": PRODUCER,
            "target": sizes.name,
        },
    )


def _stage(section: Section, sizes: Architecture) -> HostStage | ProgramStage:
    inputs = tuple(value.name for value in section.graph.inputs)
    outputs = section.graph.outputs
    if section.on_device:
        program = compile_section(section, sizes, PRODUCER).program
        return ProgramStage(section.name, program, inputs, outputs)
    model = to_onnx(_with_batch_of_one(section.graph))
    return HostStage(section.name, model.SerializeToString(deterministic=True), inputs, outputs)


def _with_batch_of_one(graph: Graph) -> Graph:
    """The graph with ports that bear the names of its values, one image each, maps NHWC."""

    def layout(shape: Shape) -> Layout:
        return "NHWC" if len(shape) == 3 else "as_is"

    interface = Interface(
        inputs=tuple(
            InputPort(name=value.name, value=value.name, layout=layout(value.shape), batch=1)
            for value in graph.inputs
        ),
        outputs=tuple(
            OutputPort(name=name, value=name, layout=layout(graph.shapes[name]), batch=1)
            for name in graph.outputs
        ),
    )
    return replace(graph, interface=interface)


def _crossing(graph: Graph, stages: Iterable[Stage]) -> dict[str, Shape]:
    """Shapes of all values that ports and stages name."""
    names = [port.value for port in graph.interface.inputs]
    names += [port.value for port in graph.interface.outputs]
    for stage in stages:
        names += [*stage.inputs, *stage.outputs]
    return {name: graph.shapes[name] for name in dict.fromkeys(names)}


def network_digest(graph: Graph) -> str:
    """SHA-256 of all that a network computes: layers, their order, weights; not its interface."""
    digest = hashlib.sha256(repr((graph.inputs, graph.outputs)).encode())
    for layer in graph.layers:
        digest.update(type(layer).__name__.encode())
        for spec in fields(layer):
            _add(digest, getattr(layer, spec.name))
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", value: object) -> None:
    if isinstance(value, BlockWeights):
        for part in (value.format, value.mantissas, value.exponents, value.channels):
            _add(digest, part)
    elif isinstance(value, np.ndarray):
        digest.update(repr((value.dtype.str, value.shape)).encode())
        digest.update(np.ascontiguousarray(value).data)
    else:
        digest.update((value.name if isinstance(value, Format) else repr(value)).encode())
