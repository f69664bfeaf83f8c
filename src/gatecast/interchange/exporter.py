"""Graph to standard ONNX in one default form: opset 21, IR version 10, no custom operator.

Ref: docs/spec/onnx.md.
"""

import json

import onnx
from onnx import TensorProto, helper

from gatecast.errors import GraphError
from gatecast.graph import Graph, InputPort, OutputPort, outer_shape

from .encode_function import DOMAIN, OPSET
from .layer_nodes import write_layer
from .ports import INTERFACE_KEY
from .writer import Writer, lies_as_port

IR_VERSION = 10


def to_onnx(graph: Graph, inline: bool = False) -> onnx.ModelProto:
    """Return `graph` as a model with its ports' names, layouts and batch; the same bytes each time.

    Parameters
    ----------
    inline : bool
        Write Encode as plain nodes, for OpenVINO, which reads no model-local functions.

    Raises
    ------
    GraphError
        Ports do not stand for all inputs and outputs, or a layer has no form in ONNX.
    """
    _check_ports(graph)
    writer = Writer(graph, inline)
    inputs = [_write_input(writer, port) for port in graph.interface.inputs]
    for layer in graph.layers:
        write_layer(layer, writer)
    outputs = [_write_output(writer, port) for port in graph.interface.outputs]
    body = helper.make_graph(writer.nodes, graph.name, inputs, outputs, writer.initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    if writer.functions:
        opsets.append(helper.make_opsetid(DOMAIN, 1))
    model = helper.make_model(
        body,
        opset_imports=opsets,
        functions=list(writer.functions.values()),
        ir_version=IR_VERSION,
        producer_name="gatecast",
    )
    text = json.dumps(graph.interface.to_json(), sort_keys=True, ensure_ascii=False)
    model.metadata_props.add(key=INTERFACE_KEY, value=text)
    return model


def _check_ports(graph: Graph) -> None:
    interface = graph.interface
    sides = (
        ("inputs", {p.value for p in interface.inputs}, [value.name for value in graph.inputs]),
        ("outputs", {p.value for p in interface.outputs}, list(graph.outputs)),
    )
    for side, found, values in sides:
        if found != set(values):
            raise GraphError(
                f"Ports of {graph.name} must stand for its {side} {', '.join(values)}, "
                f"not {', '.join(sorted(found)) or 'none'}"
            )
    ports: list[InputPort | OutputPort] = [*interface.inputs, *interface.outputs]
    names = [port.name for port in ports]
    if len(set(names)) != len(names):
        raise GraphError(f"Ports of {graph.name} must have different names, not {', '.join(names)}")


def _info(writer: Writer, port: InputPort | OutputPort) -> onnx.ValueInfoProto:
    batch, *sizes = outer_shape(writer.shape(port.value), port)
    shape = [*(["N"] if batch < 0 else [batch]), *sizes]
    return helper.make_tensor_value_info(port.name, TensorProto.FLOAT, shape)


def _write_input(writer: Writer, port: InputPort) -> onnx.ValueInfoProto:
    if len(writer.shape(port.value)) != 3 or port.layout == "NCHW":
        writer.tensors[port.value] = port.name
    else:
        name = f"{port.name}.nchw"
        writer.tensors[port.value] = writer.step(name, "Transpose", port.name, perm=[0, 3, 1, 2])
    return _info(writer, port)


def _write_output(writer: Writer, port: OutputPort) -> onnx.ValueInfoProto:
    tensor = writer.tensors[port.value]
    if not lies_as_port(writer.graph, port):
        writer.turn(f"{port.name}.nhwc", tensor, port.name, perm=[0, 2, 3, 1])
    elif tensor != port.name:
        writer.copy(tensor, port.name)
    return _info(writer, port)
