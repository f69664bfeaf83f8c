"""`gatecast compile`: a network in, an artifact out."""

from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from gatecast.artifact import Artifact
from gatecast.compiler import compile as compile_graph
from gatecast.errors import FileError, GraphError, NotFoundError
from gatecast.graph import Graph, Preprocessing
from gatecast.interchange import load
from gatecast.quantization import quantize
from gatecast.zoo import preprocessing

from . import options
from .layers import print_layers
from .terminal import print_json, say, size, working

LARGEST_LABELS = 1 << 22
"""Bytes of a file of labels."""


@click.command("compile")
@options.network("IN")
@click.option("-o", "--output", required=True, metavar="X.gcast", type=options.OUTPUT, help="File to write.")
@click.option("--target", default="software", show_default=True, help="Architecture to compile for.")
@options.rounding
@click.option(
    "--preprocess",
    metavar="[INPUT=]NAME",
    help="Let an input take JPEG and PNG files, prepared as NAME says; `gatecast zoo list` has the names.",
)
@click.option("--labels", type=options.FILE, help="Text file with the name of one class a line.")
@options.as_json
def command(
    network: options.Network,
    output: Path,
    target: str,
    rounding: options.Rounding,
    preprocess: str | None,
    labels: Path | None,
    json_: bool,
) -> None:
    """Compile a network into an artifact, the file that is served.

    IN is a quantised ONNX file made by `gatecast quantize`, or a float network (ONNX, a TensorFlow SavedModel
    or a frozen graph), which is quantised first; with `--format float` it stays float and runs on the host.
    The table says what each layer costs and where it runs.
    """
    options.refuse_overwriting(network.path, [output])
    if rounding.formats == "float":
        _refuse("first", "overrides", "target", beside="--format float")
    with working(f"Compiling {network.path} for {target}"):
        source = load(network.path, network.inputs, network.outputs)
        graph = with_interface(source, preprocess, labels)
        graph = with_formats(graph, rounding)
        artifact = compile_graph(graph, target)
        artifact.save(output)
    if json_:
        print_json(_as_json(artifact, output))
    else:
        print_layers(artifact)
    say(f"Wrote {output}, {size(output.stat().st_size)}")


def _refuse(*names: str, beside: str) -> None:
    """Refuse options that the caller gave and that would do nothing: usage error."""
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in names and context.get_parameter_source(option.name) is not ParameterSource.DEFAULT:
            raise click.UsageError(
                f"Option {option.opts[0]} must not be given with {beside}: it has no effect."
            )


def with_formats(graph: Graph, rounding: options.Rounding) -> Graph:
    """Return the graph quantised as asked for, or float as it is for ``float``; GraphError if it is not."""
    formats = rounding.formats
    if graph.is_quantized and (formats == "float" or formats is None):
        if asked := _asked(rounding):
            raise GraphError(
                f"Network {graph.name} must be float for `{asked}`, not quantised",
                hint="Start again from the float network.",
            )
        return graph
    if formats == "float":
        return graph
    return quantize(
        graph, "bfp8" if formats is None else formats, first=rounding.first, overrides=rounding.overrides
    )


def _asked(rounding: options.Rounding) -> str:
    """Return the option that asks for other formats than those of a quantised network, empty for none."""
    if rounding.formats:
        return f"--format {rounding.formats}"
    if rounding.overrides:
        return "--override"
    return "--first" if rounding.first != "bfp8" else ""


def with_interface(graph: Graph, preprocess: str | None, labels: Path | None) -> Graph:
    """Return the graph with an image stage and labels, where they are given.

    Raises
    ------
    NotFoundError
        No such input or preprocessing.
    GraphError
        The preprocessing makes another shape, or the labels are not as many as the classes.
    FileError
        The labels cannot be read.
    """
    if preprocess is not None:
        graph = _with_image_stage(graph, preprocess)
    if labels is not None:
        graph = replace(graph, interface=replace(graph.interface, labels=_read_labels(graph, labels)))
    return graph


def _with_image_stage(graph: Graph, preprocess: str) -> Graph:
    given, _, name = preprocess.rpartition("=")
    rule = preprocessing(name)
    fitting = [port for port in graph.interface.inputs if graph.shapes[port.value] == rule.shape]
    wanted = [port for port in graph.interface.inputs if port.name == given] if given else fitting
    if given and not wanted:
        names = ", ".join(port.name for port in graph.interface.inputs)
        raise NotFoundError(f"Input for a preprocessing must be one of {names}, not {given}")
    if len(wanted) != 1 or wanted[0] not in fitting:
        raise _unfitting(graph, rule, len(fitting))
    ports = tuple(replace(port, image=rule) if port is wanted[0] else port for port in graph.interface.inputs)
    return replace(graph, interface=replace(graph.interface, inputs=ports))


def _unfitting(graph: Graph, rule: Preprocessing, fitting: int) -> GraphError:
    shapes = ", ".join(f"{port.name} {list(graph.shapes[port.value])}" for port in graph.interface.inputs)
    return GraphError(
        f"Preprocessing {rule.name}, which makes {list(rule.shape)} (rows, columns, channels), "
        f"must fit one input of {graph.name}, not {shapes}",
        hint="Name the input: `--preprocess INPUT=NAME`."
        if fitting > 1
        else "Choose a preprocessing of the input's size; `gatecast zoo list` has the names.",
    )


def _read_labels(graph: Graph, path: Path) -> tuple[str, ...]:
    if path.stat().st_size > LARGEST_LABELS:
        raise FileError(f"Labels {path} must have at most {LARGEST_LABELS} bytes, not {path.stat().st_size}")
    try:
        labels = tuple(path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise FileError(
            f"Labels {path} must be UTF-8 text, one class a line: byte {error.start} is not"
        ) from error
    classes = graph.shapes[graph.interface.outputs[0].value][-1]
    if len(labels) != classes:
        raise GraphError(
            f"Labels {path} must have {classes} lines, one for each class, not {len(labels)}",
            hint="The order of the lines is the order of the network's scores.",
        )
    return labels


def _as_json(artifact: Artifact, output: Path) -> dict[str, object]:
    return {
        "output": str(output),
        "bytes": output.stat().st_size,
        "target": artifact.target,
        "formats": artifact.formats,
        "layers": [vars(layer) for layer in artifact.layers],
    }
