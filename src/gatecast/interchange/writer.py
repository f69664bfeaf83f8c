"""An ONNX graph in the making: names, constants, nodes, functions."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from gatecast.graph import Graph, InputPort, Layer, OutputPort, Shape
from gatecast.numerics import Format

from .encode_function import encode_function, inlined
from .node import LAYER_MARK


class Writer:
    """Collects the parts of a model. Tensors of maps are NCHW, of other values as they are.

    Parameters
    ----------
    graph : Graph
        Its ports keep their names; every value gets a tensor name of its own.
    inline : bool
        Encode becomes plain nodes in place of a function's call.
    """

    def __init__(self, graph: Graph, inline: bool = False) -> None:
        self.graph = graph
        self.inline = inline
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.functions: dict[str, onnx.FunctionProto] = {}
        self.tensors: dict[str, str] = {}
        self._shared: dict[str, str] = {}
        ports: list[InputPort | OutputPort] = [*graph.interface.inputs, *graph.interface.outputs]
        self._names = {port.name for port in ports} | set(graph.by_name)
        for port in (p for p in graph.interface.outputs if lies_as_port(graph, p)):
            if port.value in graph.by_name:
                self.tensors.setdefault(port.value, port.name)
        taken = {port.name for port in ports}
        for name in graph.shapes:
            if name not in self.tensors:
                self.tensors[name] = name if name not in taken else self.unique(name)

    def unique(self, name: str) -> str:
        """Return `name`, with a number where it is taken, and take it."""
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}_{count}"
        self._names.add(candidate)
        return candidate

    def shape(self, value: str) -> Shape:
        """Inner shape of a value."""
        return self.graph.shapes[value]

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add an initializer and return its name."""
        name = self.unique(name)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def shared(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add an initializer once for the whole model and return its name."""
        if name not in self._shared:
            self._shared[name] = self.constant(name, array)
        return self._shared[name]

    def integers(self, name: str, *values: int) -> str:
        """Add a constant list of int64."""
        return self.constant(name, np.array(values, np.int64))

    def number(self, name: str, value: float) -> str:
        """Add a constant float32."""
        return self.constant(name, np.array(value, np.float32))

    def step(self, name: str, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node that is a part of a layer, called `name`, and return its tensor."""
        name = self.unique(name)
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def turn(self, name: str, source: str, target: str, perm: list[int]) -> None:
        """Add a transpose from one tensor to another, both named already."""
        self.nodes.append(
            helper.make_node("Transpose", [source], [target], name=self.unique(name), perm=perm)
        )

    def copy(self, source: str, target: str) -> None:
        """Add a second name for a tensor."""
        node = helper.make_node("Identity", [source], [target], name=self.unique(f"{target}.copy"))
        self.nodes.append(node)

    def layer(self, layer: Layer, kind: str, *inputs: str, **attributes: Any) -> None:
        """Add the node whose value is that of `layer`."""
        self.whole(layer, kind, self.tensors[layer.name], *inputs, **attributes)

    def whole(self, layer: Layer, kind: str, tensor: str, *inputs: str, **attributes: Any) -> None:
        """Add the node of `layer` with its value in `tensor`; it bears the layer's name and mark."""
        mark = attributes.pop("mark", type(layer).__name__)
        node = helper.make_node(kind, list(inputs), [tensor], **attributes)
        _mark(node, layer, mark)
        self.nodes.append(node)

    def encode(self, layer: Layer, tensor: str, fmt: Format, channels: int) -> None:
        """Add a call of the function that encodes to `fmt`."""
        function = encode_function(fmt, channels)
        if not self.inline:
            self.functions[function.name] = function
            self.layer(layer, function.name, tensor, domain=function.domain)
            return
        nodes = inlined(
            function, tensor, self.tensors[layer.name], lambda name: self.unique(f"{layer.name}.{name}")
        )
        _mark(nodes[-1], layer, "Encode")
        self.nodes.extend(nodes)

    def reads(self, layer: Layer) -> list[str]:
        """Tensors of the values that `layer` reads."""
        return [self.tensors[name] for name in layer.inputs]

    def as_it_lies(self, name: str, value: str) -> str:
        """Return a tensor of `value` with its inner axes in their own order: transposed if a map."""
        tensor = self.tensors[value]
        if len(self.shape(value)) != 3:
            return tensor
        return self.step(name, "Transpose", tensor, perm=[0, 2, 3, 1])


def _mark(node: onnx.NodeProto, layer: Layer, mark: str) -> None:
    node.name = layer.name
    node.metadata_props.add(key=LAYER_MARK, value=mark)


def lies_as_port(graph: Graph, port: OutputPort) -> bool:
    """Whether a port shows its value as the tensors here lie."""
    return len(graph.shapes[port.value]) != 3 or port.layout == "NCHW"
