"""Variables of a TensorFlow 1 graph as constants, read from the checkpoint beside it. Nothing is run."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import tensorflow as tf

from gatecast.errors import FileError, UnsupportedError

from .nodes import Nodes, node_of

_VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
# The reader turns some of TensorFlow's own errors into IndexError and RuntimeError.
_UNREADABLE = (tf.errors.OpError, ValueError, OSError, IndexError, RuntimeError)


def with_constants(graph_def: Any, checkpoint: Path | None) -> Any:
    """Return the graph with constants for its variables.

    Raises
    ------
    FileError
        A variable's values are not in the checkpoint, or it is damaged.
    UnsupportedError
        A variable is used otherwise than by reading its values.
    """
    names = [node.name for node in graph_def.node if node.op in _VARIABLES]
    if not names:
        return graph_def
    frozen = type(graph_def)()
    frozen.CopyFrom(graph_def)
    nodes = Nodes(frozen)
    reader = _reader(checkpoint, names)
    for name in names:
        node = nodes.by_name[name]
        if node.op == "VarHandleOp":
            _check_readers(nodes, name)
        _set_constant(node, _values(reader, _stored_name(node), checkpoint))
    for node in frozen.node:
        if node.op == "ReadVariableOp" and node_of(node.input[0]) in names:
            dtype = node.attr["dtype"].type
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = dtype
    return frozen


def _reader(checkpoint: Path | None, names: Collection[str]) -> Any:
    if checkpoint is None:
        raise FileError(
            f"Frozen graph must hold constants only, not variables: {', '.join(sorted(names)[:5])}",
            hint="Give the SavedModel folder instead, or freeze the graph.",
        )
    try:
        return tf.train.load_checkpoint(str(checkpoint))
    except _UNREADABLE as error:
        raise FileError(f"Checkpoint {checkpoint} must be readable: {_short(error)}") from error


def _stored_name(node: Any) -> str:
    return node.attr["shared_name"].s.decode() or str(node.name)


def _values(reader: Any, name: str, checkpoint: Path | None) -> Any:
    if not reader.has_tensor(name):
        raise FileError(f"Checkpoint {checkpoint} must hold the variable {name}; it does not")
    try:
        return reader.get_tensor(name)
    except _UNREADABLE as error:
        raise FileError(f"Variable {name} in {checkpoint} must be readable: {_short(error)}") from error


def _check_readers(nodes: Nodes, name: str) -> None:
    others = [nodes.by_name[reader] for reader in nodes.readers[name]]
    if wrong := [f"{node.name} ({node.op})" for node in others if node.op != "ReadVariableOp"]:
        raise UnsupportedError(f"Variable {name} must only be read, not used by {'; '.join(wrong)}")


def _set_constant(node: Any, values: Any) -> None:
    tensor = tf.make_tensor_proto(values)
    node.op = "Const"
    del node.input[:]
    node.attr.clear()
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
