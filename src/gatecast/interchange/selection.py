"""Which inputs and outputs of a file are wanted, by the names that people give them."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import onnx

from gatecast.errors import NotFoundError
from gatecast.graph import Graph, Interface, OutputPort

from .ports import INTERFACE_KEY, stored_interface

_COPY = re.compile(r"^([^/:]+)_\d+/")
"""The first part of a name as a framework writes it when a graph is imported once more: ``classifier_1/``."""

MOST_SHOWN = 12


def match_name(asked: str, known: Collection[str]) -> str | None:
    """Return the tensor of `known` that a name stands for, or None.

    The name itself goes first. Then ``:0`` may be missing on either side, and ``classifier_1/x`` may stand
    for ``classifier/x``.
    """
    for name in (asked, _COPY.sub(r"\1/", asked)):
        for candidate in (name, name.removesuffix(":0"), f"{name}:0"):
            if candidate in known:
                return candidate
    return None


def select(
    model: onnx.ModelProto, inputs: Sequence[str] | None, outputs: Sequence[str] | None
) -> onnx.ModelProto:
    """Return a model with these outputs, which may be any tensors of it, and the inputs that they need.

    None is all that the file has. Names are found by `match_name`.

    Raises
    ------
    NotFoundError
        A name stands for nothing, or the inputs are not those that the outputs need.
    """
    selected = onnx.ModelProto()
    selected.CopyFrom(model)
    graph = selected.graph
    if outputs is not None:
        _select_outputs(graph, outputs)
        _drop_unneeded(graph)
    if inputs is not None:
        _check_inputs(graph, inputs)
    interface = stored_interface(model)
    if interface is not None:
        _store(selected, _selected_interface(interface, graph))
    return selected


def with_aliases(graph: Graph, asked: Sequence[str]) -> Graph:
    """Return a graph whose outputs also answer to the names that were asked for, given in any order."""
    names = [port.name for port in graph.interface.outputs]
    meant: Mapping[str, str | None] = {name: match_name(name, names) for name in asked}
    ports = tuple(_with_alias(port, meant) for port in graph.interface.outputs)
    return replace(graph, interface=replace(graph.interface, outputs=ports))


def _with_alias(port: OutputPort, meant: Mapping[str, str | None]) -> OutputPort:
    new = [name for name, found in meant.items() if found == port.name and name != port.name]
    return replace(port, aliases=tuple(dict.fromkeys([*port.aliases, *new])))


def _select_outputs(graph: onnx.GraphProto, asked: Sequence[str]) -> None:
    present = {info.name: info for info in graph.output}
    tensors = {name for node in graph.node for name in node.output if name} | set(present)
    infos = {}
    for name in asked:
        # The file's own outputs go before what lies between them.
        found = match_name(name, present) or match_name(name, tensors)
        if found is None:
            raise _unknown("Output", name, list(present))
        infos[found] = present.get(found, onnx.ValueInfoProto(name=found))
    kept = [onnx.ValueInfoProto.FromString(info.SerializeToString()) for info in infos.values()]
    del graph.output[:]
    graph.output.extend(kept)


def _drop_unneeded(graph: onnx.GraphProto) -> None:
    wanted = {info.name for info in graph.output}
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
    constants = {tensor.name for tensor in graph.initializer}
    for info in [i for i in graph.input if i.name not in wanted and i.name not in constants]:
        graph.input.remove(info)


def _check_inputs(graph: onnx.GraphProto, asked: Sequence[str]) -> None:
    constants = {tensor.name for tensor in graph.initializer}
    needed = [info.name for info in graph.input if info.name not in constants]
    found = []
    for name in asked:
        match = match_name(name, needed)
        if match is None:
            raise _unknown("Input", name, needed)
        found.append(match)
    if missing := [name for name in needed if name not in found]:
        raise NotFoundError(
            f"Inputs must be all that the outputs need; {', '.join(missing)} must be one of them",
            hint=f"Name {', '.join(needed)}, or name none for all.",
        )


def _selected_interface(interface: Interface, graph: onnx.GraphProto) -> Interface:
    """Keep what is said about the ports that stay; labels belong to the first output."""
    names = {info.name for info in graph.input}
    ports = {port.name: port for port in interface.outputs}
    outputs = tuple(ports[info.name] for info in graph.output if info.name in ports)
    same = bool(outputs) and outputs[0] == interface.outputs[0] and graph.output[0].name == outputs[0].name
    return Interface(
        inputs=tuple(port for port in interface.inputs if port.name in names),
        outputs=outputs,
        labels=interface.labels if same else (),
    )


def _store(model: onnx.ModelProto, interface: Interface) -> None:
    text = json.dumps(interface.to_json(), sort_keys=True, ensure_ascii=False)
    next(entry for entry in model.metadata_props if entry.key == INTERFACE_KEY).value = text


def _unknown(what: str, name: str, present: Sequence[str]) -> NotFoundError:
    shown = ", ".join(present[:MOST_SHOWN]) + (", …" if len(present) > MOST_SHOWN else "")
    return NotFoundError(
        f"{what} must be a tensor of the network, not {name}",
        hint=f"The network has the {what.lower()}{'' if len(present) == 1 else 's'} {shown}.",
    )
