"""A GraphDef as a table of nodes: who reads what, constants, parts of it."""

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gatecast.errors import FileError, UnsupportedError

v1 = tf.compat.v1

CONTROL = "^"
_SAME = ("Identity", "Enter", "StopGradient", "PreventGradient", "Snapshot")


class Nodes:
    """The nodes of one graph by name. Tensors are named ``node:index``; the index is always written."""

    def __init__(self, graph_def: Any) -> None:
        self.graph_def = graph_def
        self.by_name: dict[str, Any] = {node.name: node for node in graph_def.node}
        self.functions: dict[str, Any] = {f.signature.name: f for f in graph_def.library.function}

    def node(self, tensor: str) -> Any:
        """Return the node that makes `tensor`."""
        return self.by_name[node_of(tensor)]

    def inputs(self, node: Any) -> list[str]:
        """Return the tensors that `node` reads, without those it only waits for."""
        return [whole(text) for text in node.input if not text.startswith(CONTROL)]

    def ancestors(self, tensors: Iterable[str], stops: Collection[str] = (), waits: bool = False) -> set[str]:
        """Names of the nodes that `tensors` depend on, themselves included; nothing behind tensors `stops`.

        With `waits`, those too that a node only waits for.
        """
        found: set[str] = set()
        waiting = [whole(tensor) for tensor in tensors]
        while waiting:
            tensor = waiting.pop()
            name = node_of(tensor)
            if tensor in stops or name in found:
                continue
            if name not in self.by_name:
                raise FileError(f"Graph must hold the nodes that it reads; {name} is missing")
            found.add(name)
            node = self.by_name[name]
            waiting.extend(self.inputs(node))
            if waits:
                waiting.extend(whole(node_of(text)) for text in node.input if text.startswith(CONTROL))
        return found

    @cached_property
    def readers(self) -> dict[str, list[str]]:
        """Names of the nodes that read each node."""
        found: dict[str, list[str]] = {name: [] for name in self.by_name}
        for node in self.graph_def.node:
            for tensor in self.inputs(node):
                found.setdefault(node_of(tensor), []).append(node.name)
        return found

    def descendants(self, names: Iterable[str], stops: Collection[str] = ()) -> set[str]:
        """Names of the nodes that depend on these, themselves included; nothing behind nodes `stops`."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            if (name := waiting.pop()) not in found:
                found.add(name)
                waiting.extend([] if name in stops else self.readers[name])
        return found

    def source(self, tensor: str) -> str:
        """Return the tensor behind nodes that only hand it on."""
        while (node := self.node(tensor)).op in _SAME:
            tensor = self.inputs(node)[0]
        return tensor

    def constant(self, tensor: str) -> npt.NDArray[Any] | None:
        """Return the value of a tensor that depends on constants only, or None."""
        tensor = self.source(tensor)
        node = self.node(tensor)
        if node.op == "Const":
            return np.asarray(tf.make_ndarray(node.attr["value"].tensor))
        needed = self.ancestors([tensor])
        if len(needed) > 30 or any(self.by_name[name].op not in _FOLDED for name in needed):
            return None
        graph_def = self.part([tensor])
        for inner in graph_def.node:
            if inner.op == "Enter":
                _become_identity(inner)
        with tf.Graph().as_default(), v1.Session() as session:
            (value,) = v1.import_graph_def(graph_def, return_elements=[tensor], name="")
            return np.asarray(session.run(value))

    def part(
        self, outputs: Iterable[str], replaced: Mapping[str, str] | None = None, waits: bool = False
    ) -> Any:
        """Return a GraphDef of what `outputs` need, with control dependencies if `waits`.

        `replaced` gives for tensors the name of another one, which the caller adds.
        """
        replaced = replaced or {}
        needed = self.ancestors(outputs, stops=replaced, waits=waits)
        part = v1.GraphDef()
        part.versions.CopyFrom(self.graph_def.versions)
        part.library.CopyFrom(self.graph_def.library)
        for node in self.graph_def.node:
            if node.name not in needed:
                continue
            copy = part.node.add()
            copy.CopyFrom(node)
            copy.ClearField("device")
            copy.attr.pop("_class", None)
            del copy.input[:]
            copy.input.extend(replaced.get(tensor, tensor) for tensor in self.inputs(node))
            if waits:
                copy.input.extend(text for text in node.input if text.startswith(CONTROL))
        return part

    @cached_property
    def tensors(self) -> "TensorShapes":
        """Dtypes and shapes as TensorFlow infers them."""
        return TensorShapes(self.graph_def)

    def ops_of(self, names: Iterable[str]) -> dict[str, str]:
        """Operator of each of these nodes, and of the nodes in functions that they call, by name."""
        ops = {}
        for name in names:
            node = self.by_name[name]
            ops[name] = node.op
            for function in self._called(node):
                ops.update({f"{name}/{inner.name}": inner.op for inner in function.node_def})
        return ops

    def constants_of(self, names: Iterable[str]) -> list[npt.NDArray[Any]]:
        """All constants among these nodes, and in functions that they call."""
        nodes = [self.by_name[name] for name in names]
        inner = [node for outer in nodes for function in self._called(outer) for node in function.node_def]
        found = [node for node in (*nodes, *inner) if node.op == "Const"]
        return [np.asarray(tf.make_ndarray(node.attr["value"].tensor)) for node in found]

    def _called(self, node: Any, depth: int = 8) -> list[Any]:
        names = [value.func.name for value in node.attr.values() if value.HasField("func")]
        functions = [self.functions[name] for name in names if name in self.functions]
        deeper = [
            inner
            for function in functions
            for called in function.node_def
            for inner in (self._called(called, depth - 1) if depth else [])
        ]
        return functions + deeper


class TensorShapes:
    """dtype and static shape of every tensor of a graph."""

    def __init__(self, graph_def: Any) -> None:
        self._graph = imported(graph_def)

    def dtype(self, tensor: str) -> Any:
        """Return the dtype."""
        return self._graph.get_tensor_by_name(tensor).dtype

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """Return the sizes, None where they are not known; None for a tensor of unknown rank."""
        shape = self._graph.get_tensor_by_name(tensor).shape
        return None if shape.rank is None else tuple(shape.as_list())

    def exists(self, tensor: str) -> bool:
        """Whether the node makes as many tensors."""
        name, _, index = tensor.partition(":")
        return int(index) < len(self._graph.get_operation_by_name(name).outputs)


def imported(graph_def: Any) -> Any:
    """Return a GraphDef as a tf.Graph.

    Raises
    ------
    UnsupportedError
        It has operators that this TensorFlow does not know: all are named.
    FileError
        It is not well formed.
    """
    functions = {function.signature.name for function in graph_def.library.function}
    unknown = [
        f"{node.name} ({node.op})"
        for node in graph_def.node
        if node.op not in functions and not node.op.startswith("_") and not hasattr(tf.raw_ops, node.op)
    ]
    if unknown:
        raise UnsupportedError(
            f"Graph must have operators that TensorFlow {tf.__version__} knows, not {'; '.join(unknown)}"
        )
    graph = tf.Graph()
    try:
        with graph.as_default():
            v1.import_graph_def(graph_def, name="")
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise FileError(f"Graph must be well formed: {' '.join(str(error).split())[:300]}") from error
    return graph


def node_of(tensor: str) -> str:
    """Name of the node that makes a tensor."""
    return tensor.removeprefix(CONTROL).partition(":")[0]


def whole(tensor: str) -> str:
    """Return the name with its index: ``node`` means ``node:0``."""
    return tensor if ":" in tensor else f"{tensor}:0"


_FOLDED = frozenset(
    "Const Identity Enter Cast Pack Reshape ExpandDims Squeeze Fill ConcatV2 "
    "Neg RealDiv Div Mul Sub Add AddV2".split()
)


def _become_identity(node: Any) -> None:
    dtype = node.attr["T"]
    node.op = "Identity"
    node.attr.clear()
    node.attr["T"].CopyFrom(dtype)
