"""A GraphDef to ONNX by tf2onnx, which says in its log what it cannot convert and leaves it as it is."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import tf2onnx

from gatecast.errors import UnsupportedError

OPSET = 18
"""The newest that tf2onnx 1.17 writes."""

# What tf2onnx raises where a graph is not of the form that it expects.
_FAULTS = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError)


def to_onnx(graph_def: Any, inputs: Sequence[str], outputs: Sequence[str], name: str) -> onnx.ModelProto:
    """Return the graph as ONNX; operators that ONNX does not have keep TensorFlow's names.

    Raises
    ------
    UnsupportedError
        The graph cannot be converted at all; what tf2onnx says is told.
    """
    with _log() as messages:
        try:
            model, _ = tf2onnx.convert.from_graph_def(
                graph_def, name=name, input_names=list(inputs), output_names=list(outputs), opset=OPSET
            )
        except _FAULTS as error:
            told = "; ".join(messages[:5]) or " ".join(str(error).split())[:300]
            raise UnsupportedError(f"Graph {name} must be one that tf2onnx converts: {told}") from error
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
