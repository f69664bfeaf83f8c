"""A GraphDef to ONNX by tf2onnx, which says in its log what it cannot convert and leaves it as it is."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import onnx
import tensorflow as tf
import tf2onnx
from onnx import numpy_helper

from gatecast.errors import UnsupportedError

OPSET = 18
"""The newest that tf2onnx 1.17 writes."""

_LARGE = 1 << 12
"""Bytes of a constant from which on it is a weight; constants that say shapes are smaller."""

# What tf2onnx raises where a graph is not of the form that it expects.
_FAULTS = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError)


def to_onnx(graph_def: Any, inputs: Sequence[str], outputs: Sequence[str], name: str) -> onnx.ModelProto:
    """Return the graph as ONNX; operators that ONNX does not have keep TensorFlow's names.

    tf2onnx copies the whole graph many times, so it is shown weights as inputs and gets their shapes only.

    Raises
    ------
    UnsupportedError
        The graph cannot be converted at all; what tf2onnx says is told.
    """
    hollow, weights = _without_weights(graph_def)
    with _log() as messages:
        try:
            model, _ = tf2onnx.convert.from_graph_def(
                hollow,
                name=name,
                input_names=[*inputs, *weights],
                output_names=list(outputs),
                opset=OPSET,
            )
        except _FAULTS as error:
            told = "; ".join(messages[:5]) or " ".join(str(error).split())[:300]
            raise UnsupportedError(f"Graph {name} must be one that tf2onnx converts: {told}") from error
    return _with_weights(model, weights)


def _without_weights(graph_def: Any) -> tuple[Any, dict[str, npt.NDArray[Any]]]:
    """Return the graph with placeholders for its large constants, and these by the names of their tensors."""
    hollow = type(graph_def)()
    weights = {}
    hollow.versions.CopyFrom(graph_def.versions)
    hollow.library.CopyFrom(graph_def.library)
    for node in graph_def.node:
        copy = hollow.node.add()
        if node.op != "Const" or node.attr["value"].tensor.ByteSize() < _LARGE:
            copy.CopyFrom(node)
            continue
        value = tf.make_ndarray(node.attr["value"].tensor)
        weights[f"{node.name}:0"] = value
        copy.name, copy.op = node.name, "Placeholder"
        copy.attr["dtype"].type = node.attr["dtype"].type
        copy.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
    return hollow, weights


def _with_weights(model: onnx.ModelProto, weights: Mapping[str, npt.NDArray[Any]]) -> onnx.ModelProto:
    """Put the weights back as initializers."""
    kept = [info for info in model.graph.input if info.name not in weights]
    found = [info.name for info in model.graph.input if info.name in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(weights[name], name) for name in found)
    return model


@contextmanager
def _log() -> Iterator[list[str]]:
    """Collect tf2onnx's errors; nothing of its log is printed meanwhile."""
    logger = logging.getLogger("tf2onnx")
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(" ".join(record.getMessage().split())[:300])

    handler = Collector(logging.ERROR)
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Return the model with tensors renamed, save where the new name is taken."""
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    names = {old: new for old, new in names.items() if new not in taken}
    for info in model.graph.input:
        info.name = names.get(info.name, info.name)
    for node in model.graph.node:
        inputs = [names.get(tensor, tensor) for tensor in node.input]
        del node.input[:]
        node.input.extend(inputs)
    return model
