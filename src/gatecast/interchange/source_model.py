"""A model before it is read: functions of other domains inlined, names and nodes checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx.inliner
from google.protobuf.message import Message

from gatecast.errors import FileError, UnsupportedError

from . import operators as _operators
from .encode_function import DOMAIN, encoded_format, outlined
from .folding import FOLDABLE
from .node import OPERATORS


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with calls of no functions but Encode, checked node by node.

    Raises
    ------
    FileError
        A name is no text, or a node is not well formed.
    UnsupportedError
        The opset is too old or too new.
    """
    _check_text(model)
    model = outlined(_without_foreign_functions(model))
    _check(model)
    return model


def _without_foreign_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    foreign = [(f.domain, f.name) for f in model.functions if f.domain != DOMAIN]
    return onnx.inliner.inline_selected_functions(model, foreign) if foreign else model


def is_known(node: onnx.NodeProto, functions: Mapping[str, onnx.FunctionProto]) -> bool:
    """Whether a node's operator is read at all; `functions` are the model's own in Gatecast's domain."""
    if node.domain == DOMAIN:
        return encoded_format(node, functions) is not None
    return node.domain in ("", "ai.onnx") and (
        node.op_type in OPERATORS or node.op_type in FOLDABLE or node.op_type == "Constant"
    )


def own_functions(model: onnx.ModelProto) -> dict[str, onnx.FunctionProto]:
    """Return the model's functions in Gatecast's domain, by name."""
    return {function.name: function for function in model.functions if function.domain == DOMAIN}


def _check(model: onnx.ModelProto) -> None:
    if not model.graph.output:
        raise FileError("Model must have a graph with outputs; it holds none")
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and not 7 <= opset.version <= newest:
            raise UnsupportedError(
                f"Model must be of an opset from 7 to {newest}, not {opset.version}",
                hint="Export it for another opset, or convert it with onnx.version_converter.",
            )
    context = onnx.checker.C.CheckerContext()
    context.ir_version = max(model.ir_version, 3)
    context.opset_imports = {opset.domain: opset.version for opset in model.opset_import}
    functions = own_functions(model)
    for node in model.graph.node:
        if is_known(node, functions) and node.domain != DOMAIN:
            _check_node(node, context)


def _check_text(message: Message) -> None:
    """Refuse names that are no text: protobuf hands them out as bytes."""
    for field, value in message.ListFields():
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        if field.message_type is not None:
            for part in values:
                _check_text(part)
        elif field.type == field.TYPE_STRING and not all(isinstance(text, str) for text in values):
            raise FileError(f"Model must have names in UTF-8, not {values[0]!r} as {field.name}")


def _check_node(node: onnx.NodeProto, context: Any) -> None:
    try:
        onnx.checker.check_node(node, context)
    except (onnx.checker.ValidationError, ValueError) as error:
        text = " ".join(str(error).split())
        raise FileError(f"Node {node.name or node.op_type} must be well formed ONNX: {text[:300]}") from error
