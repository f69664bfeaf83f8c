"""What the worker of a conversion does: read, select, quantise, write, register."""

from collections.abc import Mapping
from typing import Any

from gatecast import __version__
from gatecast.errors import GraphError
from gatecast.graph import Convolution, Graph, MatMul
from gatecast.interchange import export, load
from gatecast.quantization import Report, quantize_with_report

from .conversions import find_network, result_name
from .log import say
from .models import Draft, Model, copied, insert
from .operations import Operation, succeed
from .sources import find_source
from .workspace import Workspace

STEPS = 5


def run(workspace: Workspace, operation: Operation, request: Mapping[str, Any]) -> str:
    """Convert a model; return the id of the result."""
    model = workspace.models.find(request["model"])
    kind, inside = find_network(model)
    _step(1, f"Reading {model.id}: {kind}, {model.size:,} bytes, digest {model.digest}")
    with workspace.models.checkout(model) as path:
        graph = load(path / inside, request["inputs"], request["outputs"])
    _step(2, f"Read {graph.name}: {len(graph.layers)} layers; {_ports(graph)}")
    if request["require_acceleration"]:
        _check_accelerated(graph)
    _step(3, f"Quantising to {request['format']}")
    graph, report = quantize_with_report(graph, request["format"])
    _tell(report)
    _step(4, f"Writing {model.name}.onnx")
    return _register(workspace, operation, _draft(model, graph, request), graph)


def _register(workspace: Workspace, operation: Operation, draft: Draft, graph: Graph) -> str:
    """Write the file and add the model, in one transaction with the operation's success."""
    name = operation.subject.partition(":")[0]
    with workspace.store.blobs.adding() as adding:
        file = adding.folder / f"{name}.onnx"
        export(graph, file)
        source = find_source(file)
        files = copied(adding, source)
        _step(STEPS, f"Registering {draft.name}, {files[0].size:,} bytes, digest {files[0].digest}")
        with workspace.store.transaction() as database:
            result = insert(database, draft, source, files)
            succeed(database, operation.id, result)
    return result


def _draft(model: Model, graph: Graph, request: Mapping[str, Any]) -> Draft:
    interface = graph.interface
    properties = {
        "format": request["format"],
        "inputs": ",".join(port.name for port in interface.inputs),
        "outputs": ",".join(port.name for port in interface.outputs),
        "tool_version": __version__,
    }
    return Draft(
        name=result_name(model),
        tags={},
        properties=properties,
        description=f"{model.id} as ONNX, quantised to {request['format']}",
        parent=model.id,
    ).checked()


def _check_accelerated(graph: Graph) -> None:
    if not any(isinstance(layer, Convolution | MatMul) for layer in graph.layers):
        raise GraphError(
            f"Network {graph.name} must have a convolution or matrix product, which a device accelerates; "
            "it has none",
            hint="Choose outputs behind such a layer, or allow it: --no-require-acceleration.",
        )


def _tell(report: Report) -> None:
    if not report.layers:
        say("The network is quantised with these formats already")
    for layer in report.layers:
        say(f"  {layer.layer}: {layer.formats}, {layer.weights:,} weights, {layer.sqnr_db:.1f} dB SQNR")
    for flushed in report.flushed:
        say(f"  {flushed.layer}.{flushed.field}: {flushed.count} values too small for float32 became 0")


def _ports(graph: Graph) -> str:
    signature = graph.signature
    sides = (("inputs", signature.inputs), ("outputs", signature.outputs))
    return "; ".join(
        f"{side} {', '.join(f'{t.name} {t.dtype} {list(t.shape)}' for t in tensors)}"
        for side, tensors in sides
    )


def _step(number: int, message: str) -> None:
    say(f"[{number}/{STEPS}] {message}")
