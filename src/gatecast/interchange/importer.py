"""ONNX to Graph: walks the nodes once, lists all that cannot be read, then joins what belongs together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx

from gatecast.errors import FileError, GatecastError, UnsupportedError
from gatecast.graph import Encode, Graph, InputPort, Interface, Layout, OutputPort

from .encode_function import DOMAIN, encoded_format
from .folding import FOLDABLE, constant_of, fold
from .idioms import alive, join_idioms
from .network import Network, NotSupportedError, axes_of, natural
from .node import OPERATORS, Node, tensor_constant
from .ports import SourceInput, layout_of, source_inputs, stored_interface
from .source_model import is_known, own_functions, prepared
from .values import AnyConstant, Value, View


def from_onnx(model: onnx.ModelProto, layouts: Mapping[str, Layout] | None = None) -> Graph:
    """Read a network.

    Parameters
    ----------
    layouts : mapping of input name to layout, optional
        Where it is known; else the metadata or the first operator tells.

    Raises
    ------
    UnsupportedError
        Nodes that Gatecast has no layer for: all of them, each with its name, operator and the reason.
    FileError
        The model is not well formed, or weights are not finite.
    GraphError
        Layers do not fit each other.
    """
    return _Importer(prepared(model), layouts or {}).graph()


def supported_operators() -> list[str]:
    """Names of the operators that are read wherever they stand, sorted."""
    return sorted(OPERATORS)


class _Importer:
    """One reading of one model."""

    def __init__(self, model: onnx.ModelProto, layouts: Mapping[str, Layout]) -> None:
        self.model = model
        self.layouts = layouts
        self.opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
        self.functions = own_functions(model)
        self.interface = stored_interface(model)
        self.inputs = source_inputs(model.graph)
        batches = {source.batch for source in self.inputs if source.batch is not None}
        if len(batches) > 1:
            raise UnsupportedError(f"Inputs must have one size of the batch, not {sorted(batches)}")
        self.batch = batches.pop() if batches else None
        self.network = Network(self.batch or 1)
        self.tensors: dict[str, Value] = {}
        self.failed: list[str] = []
        self.lost: set[str] = set()

    def graph(self) -> Graph:
        """Read everything."""
        for tensor in self.model.graph.initializer:
            self.tensors[tensor.name] = tensor_constant(tensor, tensor.name)
        input_ports = [self._add_input(source) for source in self.inputs]
        for proto in self._needed():
            self._read(proto)
        self._refuse_failed()
        output_ports = [self._output(info) for info in self.model.graph.output]
        self._refuse_failed()
        interface = self._interface(input_ports, output_ports)
        outputs = tuple(dict.fromkeys(port.value for port in interface.outputs))
        network = self.network
        layers = join_idioms(alive(network.layers, network.whole, outputs), network.whole, set(outputs))
        name = self.model.graph.name or "network"
        return Graph(name, tuple(network.inputs), layers, outputs, interface)

    def _interface(self, inputs: Sequence[InputPort], outputs: Sequence[OutputPort]) -> Interface:
        """Return the stored interface with the values that the outputs have now, or a new one.

        An output that the stored one does not know, because it was selected since, is as it was found.
        """
        if self.interface is None:
            return Interface(inputs=tuple(inputs), outputs=tuple(outputs))
        stored = {port.name: port for port in self.interface.outputs}
        ports = tuple(replace(stored.get(port.name, port), value=port.value) for port in outputs)
        return replace(self.interface, outputs=ports)

    def _add_input(self, source: SourceInput) -> InputPort:
        stored = {port.name: port for port in self.interface.inputs} if self.interface else {}
        known = stored.get(source.name)
        layout = known.layout if known else self.layouts.get(source.name)
        layout = layout or layout_of(self.model.graph, source)
        value = known.value if known else source.name
        sizes = source.sizes
        if layout == "NCHW" and len(sizes) != 3:
            raise FileError(f"Input {source.name} must have four axes for layout NCHW, not {len(sizes) + 1}")
        shape = (sizes[1], sizes[2], sizes[0]) if layout == "NCHW" else sizes
        self.network.add_input(value, shape)
        order = natural(3) if layout == "NCHW" else range(1, len(shape) + 1)
        self.tensors[source.name] = View(value, axes_of(shape, tuple(order)))
        return InputPort(name=source.name, value=value, layout=layout, batch=source.batch)

    def _needed(self) -> list[onnx.NodeProto]:
        """Return the nodes that the outputs depend on, and those that are marked as layers."""
        wanted = {info.name for info in self.model.graph.output}
        needed = []
        for node in reversed(self.model.graph.node):
            if wanted.intersection(node.output) or Node(node, "", 0, ()).mark:
                needed.append(node)
                wanted.update(node.input)
        return needed[::-1]

    def _read(self, proto: onnx.NodeProto) -> None:
        name = proto.name or next(iter(proto.output), proto.op_type)
        if not is_known(proto, self.functions):
            own = proto.domain == DOMAIN and proto.op_type in self.functions
            self._fail(proto, name, "its function is not the one of that name" if own else "not supported")
            return
        if self.lost.intersection(proto.input):
            self.lost.update(proto.output)
            return
        if unknown := [tensor for tensor in proto.input if tensor and tensor not in self.tensors]:
            raise FileError(f"Node {name} must read tensors made before it, not {', '.join(unknown)}")
        if twice := [tensor for tensor in proto.output if tensor in self.tensors]:
            raise FileError(f"Node {name} must make new tensors, not {', '.join(twice)} again")
        inputs = tuple(self.tensors[tensor] if tensor else None for tensor in proto.input)
        node = Node(proto, name, self.opset, inputs)
        try:
            values = self._values(node)
        except NotSupportedError as error:
            self._fail(proto, name, str(error))
            return
        except GatecastError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise FileError(f"Node {name} ({_full_name(proto)}) must be well formed: {error}") from error
        self.tensors.update(zip(proto.output, values, strict=False))
        if node.mark and isinstance(values[0], View):
            self.network.whole.add(values[0].value)

    def _fail(self, proto: onnx.NodeProto, name: str, reason: str) -> None:
        self.failed.append(f"{name} ({_full_name(proto)}: {reason})")
        self.lost.update(proto.output)

    def _values(self, node: Node) -> Sequence[Value]:
        kind = node.proto.op_type
        if node.proto.domain == DOMAIN:
            return [self._encode(node)]
        if kind == "Constant":
            return [constant_of(node)]
        given = [value for value in node.inputs if value is not None]
        if kind in FOLDABLE and all(isinstance(value, AnyConstant) for value in given):
            return fold(node)
        if kind not in OPERATORS:
            raise NotSupportedError("is known for constants only")
        result = OPERATORS[kind](node, self.network)
        return [result] if isinstance(result, Value) else result

    def _encode(self, node: Node) -> View:
        fmt = encoded_format(node.proto, self.functions)
        view = self.network.view(node.input(0))
        if len(view.axes) not in (2, 4):
            raise NotSupportedError(f"encodes a tensor of {len(view.axes)} axes")
        view = self.network.arranged(view, natural(len(view.axes) - 1))
        return self.network.chain(view, Encode, node.name, format=fmt)

    def _refuse_failed(self) -> None:
        if not self.failed:
            return
        count = len(self.failed)
        raise UnsupportedError(
            f"Network {self.model.graph.name} must have operators that Gatecast knows, "
            f"not {'this' if count == 1 else f'these {count}'}: " + "; ".join(self.failed),
            hint=f"Supported operators: {', '.join(supported_operators())}.",
        )

    def _output(self, info: onnx.ValueInfoProto) -> OutputPort:
        batch = self._output_batch(info)
        try:
            view, layout = self._output_view(info.name)
        except NotSupportedError as error:
            self.failed.append(f"{info.name} (output: {error})")
            return OutputPort(name=info.name, value="")
        return OutputPort(name=info.name, value=view.value, layout=layout, batch=batch)

    def _output_view(self, name: str) -> tuple[View, Layout]:
        if name not in self.tensors:
            raise NotSupportedError("is made by no node")
        view, order = self.network.arrange(self.network.view(self.tensors[name]))
        if len(order) != 3:
            return view, "as_is"
        return view, "NCHW" if order == natural(3) else "NHWC"

    def _output_batch(self, info: onnx.ValueInfoProto) -> int | None:
        dims = info.type.tensor_type.shape.dim
        return (dims[0].dim_value or None) if dims else self.batch


def _full_name(proto: onnx.NodeProto) -> str:
    return proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
