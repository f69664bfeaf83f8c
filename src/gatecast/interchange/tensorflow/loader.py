"""TensorFlow to Graph: freeze, take the image stage off, convert the rest to ONNX, read that."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from gatecast.errors import FileError, UnsupportedError
from gatecast.graph import Graph, InputPort, Interface, Layout, OutputPort

from ..importer import from_onnx
from ..opening import listed
from .conversion import renamed, to_onnx
from .image_stage import ImageStage, find_image_stage
from .names import Names
from .nodes import Nodes, node_of
from .probes import with_steps
from .sources import Source, read_source
from .variables import with_constants

v1 = tf.compat.v1


def load(
    path: str | os.PathLike[str],
    inputs: str | Sequence[str] | None = None,
    outputs: str | Sequence[str] | None = None,
) -> Graph:
    """Read a network from a SavedModel folder or a frozen graph.

    A placeholder of strings becomes an input with an image stage; what it does is read from the graph and
    checked against TensorFlow's own results.

    Parameters
    ----------
    inputs, outputs : str or list of str, optional
        Names of tensors (``Placeholder:0``; ``:0`` may be left out) or keys of the signature; several as a
        list or with commas between. They become the names of the ports. Without them, the signature's.

    Raises
    ------
    FileError
        The model is missing, damaged, or another thing.
    NotFoundError
        A tensor is not there; the hint lists those that are.
    UnsupportedError
        It holds nodes that Gatecast has no layer for, or an image stage it cannot say; all are listed.
    """
    with _quiet():
        return _loaded(read_source(Path(path)), inputs, outputs)


def _loaded(source: Source, inputs: str | Sequence[str] | None, outputs: str | Sequence[str] | None) -> Graph:
    names = Names(source, Nodes(source.graph_def))
    cut = _cut(source, names, listed(inputs), listed(outputs))
    entries = {name: _entry(cut, name, number) for number, name in enumerate(cut.inputs)}
    model = to_onnx(
        _network(cut, entries.values()),
        [entry.placeholder for entry in entries.values()],
        list(dict.fromkeys(cut.outputs.values())),
        source.name,
    )
    values = {name: names.value(tensor) for name, tensor in cut.inputs.items()}
    model = renamed(model, {entries[name].placeholder: value for name, value in values.items()})
    model.graph.name = source.name
    layouts: dict[str, Layout] = {
        info.name: "NHWC" for info in model.graph.input if len(info.type.tensor_type.shape.dim) == 4
    }
    graph = from_onnx(model, layouts)
    return replace(graph, interface=_interface(graph, cut, entries, names))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without TensorFlow's advice to write for version 2: graphs of version 1 are what is read here."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class _Cut:
    """The graph with constants for its variables, and the tensors by the names of their ports."""

    nodes: Nodes
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    path: Path


@dataclass(frozen=True)
class _Entry:
    """Where an input enters the network: the tensor it stands for, and the nodes that stand there instead."""

    tensor: str
    stage: ImageStage | None
    placeholder: str
    result: str
    graph_def: Any


def _cut(source: Source, names: Names, inputs: list[str] | None, outputs: list[str] | None) -> _Cut:
    made, given = names.outputs(outputs), names.inputs(inputs)
    part = names.nodes.part([*made.values(), *given.values()], waits=True)
    graph_def = with_constants(part, source.checkpoint)
    nodes = Nodes(_without_defaults(graph_def, {node_of(tensor) for tensor in given.values()}))
    used = {name: tensor for name, tensor in given.items() if _is_used(nodes, made, tensor, given)}
    idle = sorted(set(given) - set(used))
    missing = sorted(
        name
        for name in nodes.ancestors(made.values(), stops=given.values())
        if nodes.by_name[name].op == "Placeholder"
    )
    if missing:
        raise FileError(
            f"Outputs of {source.path} must depend on the inputs {', '.join(given) or 'none'} only, not on "
            f"{', '.join(missing)} too",
            hint="Name these tensors as inputs as well.",
        )
    if not used or (idle and inputs is not None):
        raise FileError(
            f"Inputs of {source.path} must lead to an output; {', '.join(idle) or 'nothing'} does not",
            hint="Name the tensors that a client sends as inputs, those it gets as outputs.",
        )
    return _Cut(nodes, used, made, source.path)


def _without_defaults(graph_def: Any, given: set[str]) -> Any:
    """Placeholders with a default that is not an input become their default."""
    result = type(graph_def)()
    result.CopyFrom(graph_def)
    for node in result.node:
        if node.op == "PlaceholderWithDefault" and node.name not in given:
            dtype = node.attr["dtype"].type
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = dtype
    return result


def _is_used(nodes: Nodes, outputs: Mapping[str, str], tensor: str, given: Mapping[str, str]) -> bool:
    others = set(given.values()) - {tensor}
    return node_of(tensor) in nodes.ancestors(outputs.values(), stops=others)


def _entry(cut: _Cut, name: str, number: int) -> _Entry:
    """Make the nodes at which the network begins: a placeholder, and arithmetic that a stage left over."""
    tensor = cut.inputs[name]
    is_text = cut.nodes.tensors.dtype(tensor) == tf.string
    stage = find_image_stage(cut.nodes, tensor, list(cut.outputs.values())) if is_text else None
    with tf.Graph().as_default() as graph, v1.name_scope(f"gatecast.input.{number}"):
        if stage is None:
            dtype, shape = cut.nodes.tensors.dtype(tensor), _shape(cut, name, tensor)
            placeholder = result = v1.placeholder(dtype, shape)
        else:
            placeholder = v1.placeholder(tf.float32, (stage.batch, *stage.preprocessing.shape))
            result = with_steps(placeholder, stage.rest)
        end = stage.tensor if stage else tensor
        return _Entry(end, stage, placeholder.name, result.name, graph.as_graph_def())


def _shape(cut: _Cut, name: str, tensor: str) -> tuple[int | None, ...]:
    shape = cut.nodes.tensors.shape(tensor)
    if shape is None or None in shape[1:] or cut.nodes.tensors.dtype(tensor) != tf.float32:
        found = "of any shape" if shape is None else [size or "?" for size in shape]
        dtype = cut.nodes.tensors.dtype(tensor).name
        raise UnsupportedError(
            f"Input {name} of {cut.path} must be float32 of a fixed size, not {dtype} {found}",
            hint="Save the model with a placeholder such as [None, 224, 224, 3].",
        )
    return shape


def _network(cut: _Cut, entries: Any) -> Any:
    entries = list(entries)
    part = cut.nodes.part(cut.outputs.values(), {entry.tensor: entry.result for entry in entries})
    for entry in entries:
        part.node.extend(entry.graph_def.node)
    return part


def _interface(graph: Graph, cut: _Cut, entries: Mapping[str, _Entry], names: Names) -> Interface:
    """Give the ports the names that the caller used, with the others as aliases."""
    inputs = []
    for (name, entry), port in zip(entries.items(), graph.interface.inputs, strict=True):
        image = entry.stage.preprocessing if entry.stage else None
        inputs.append(
            InputPort(name=name, value=port.value, layout=port.layout, batch=port.batch, image=image)
        )
    made = {port.name: port for port in graph.interface.outputs}
    outputs = [
        replace(made[tensor], name=name, aliases=names.aliases(name, tensor))
        for name, tensor in cut.outputs.items()
    ]
    return Interface(inputs=tuple(inputs), outputs=tuple[OutputPort, ...](outputs))
