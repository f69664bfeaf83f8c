"""Inputs and outputs of an ONNX file: names, layouts, batch, and the interface in its metadata."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from gatecast.errors import FileError, UnsupportedError
from gatecast.graph import Interface, Layout

INTERFACE_KEY = "gatecast.interface"
"""Key of the model's metadata that holds the interface as JSON."""


@dataclass(frozen=True)
class SourceInput:
    """An input of the file: sizes of all its axes but the batch, which is None for any."""

    name: str
    batch: int | None
    sizes: tuple[int, ...]


def source_inputs(graph: onnx.GraphProto) -> list[SourceInput]:
    """Return the inputs that are no initializers.

    Raises
    ------
    UnsupportedError
        An input is not float32, or its size is not fixed.
    """
    constants = {tensor.name for tensor in graph.initializer}
    return [_source_input(info) for info in graph.input if info.name not in constants]


def _source_input(info: onnx.ValueInfoProto) -> SourceInput:
    tensor = info.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        names = {number: name.lower() for name, number in TensorProto.DataType.items()}
        kind = names.get(tensor.elem_type, f"type {tensor.elem_type}")
        raise UnsupportedError(
            f"Input {info.name} must be float32, not {kind}",
            hint="Cut the network behind its first cast, or export it with a float32 input.",
        )
    dims = list(tensor.shape.dim)
    if len(dims) < 2:
        raise UnsupportedError(f"Input {info.name} must have a batch and at least one axis, not {len(dims)}")
    if any(dim.dim_value < 1 for dim in dims[1:]):
        shape = [dim.dim_value or dim.dim_param or "?" for dim in dims]
        raise UnsupportedError(
            f"Input {info.name} must have a fixed size, not {shape}",
            hint="Export with a fixed height and width, or fix them: python -m "
            f"onnxruntime.tools.make_dynamic_shape_fixed --input_name {info.name} --input_shape 1,3,224,224 "
            "IN.onnx OUT.onnx",
        )
    return SourceInput(info.name, dims[0].dim_value or None, tuple(dim.dim_value for dim in dims[1:]))


_ELEMENT_BY_ELEMENT = frozenset("Add Sub Mul Div Cast Identity Clip Neg Max Min".split())


def layout_of(graph: onnx.GraphProto, source: SourceInput) -> Layout:
    """Guess how an input of four axes is laid out, from the first operator that tells."""
    if len(source.sizes) != 3:
        return "as_is"
    tensors = {source.name}
    for node in graph.node:
        if not tensors.intersection(node.input):
            continue
        if node.op_type == "Transpose":
            perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
            return "NHWC" if perm == [0, 3, 1, 2] else "NCHW"
        if node.op_type == "Reshape":  # one channel: a transpose that moves nothing
            return "NHWC" if source.sizes[2] == 1 else "NCHW"
        if node.op_type not in _ELEMENT_BY_ELEMENT:
            return "NCHW"
        tensors.update(node.output)
    return "NHWC" if source.sizes[2] in (1, 3, 4) and source.sizes[0] not in (1, 3, 4) else "NCHW"


def stored_interface(model: onnx.ModelProto) -> Interface | None:
    """Return the interface that the file's metadata holds; FileError if its ports are not the file's."""
    text = next((p.value for p in model.metadata_props if p.key == INTERFACE_KEY), None)
    if text is None:
        return None
    try:
        data = json.loads(text)
    except ValueError as error:
        raise FileError(f"Metadata {INTERFACE_KEY} must be JSON: {error}") from error
    interface = Interface.from_json(data)
    constants = {tensor.name for tensor in model.graph.initializer}
    found = [i.name for i in model.graph.input if i.name not in constants]
    _check_names("inputs", [port.name for port in interface.inputs], found)
    outputs = [info.name for info in model.graph.output]
    ports = [port.name for port in interface.outputs]
    # An output that was selected since is not in it.
    _check_names("outputs", ports, outputs, selected=[name for name in outputs if name in ports])
    return interface


def _check_names(
    what: str, ports: Sequence[str], tensors: Sequence[str], selected: Sequence[str] | None = None
) -> None:
    if sorted(ports) != sorted(tensors if selected is None else selected):
        raise FileError(
            f"Metadata {INTERFACE_KEY} must name the file's {what} {list(tensors)}, not {list(ports)}",
            hint=f"Remove the metadata {INTERFACE_KEY}, or export the network again.",
        )
