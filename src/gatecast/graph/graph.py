"""A network: inputs, layers in an order in which they can run, outputs, interface."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

from gatecast.errors import GraphError, NotFoundError

from .interface import InputPort, Interface, Layout, OutputPort, Signature, TensorSpec
from .layers import BlockWeights, Convolution, Encode, Layer, MatMul
from .shapes import Shape, infer_shape


@dataclass(frozen=True)
class Input:
    """A value that comes from outside: float32 of `shape` for one image."""

    name: str
    shape: Shape


@dataclass(frozen=True, eq=False)
class Graph:
    """A vision network for one image at a time.

    Parameters
    ----------
    name : str
    inputs : tuple of Input
    layers : tuple of Layer
        In an order in which each reads only inputs and earlier layers. The order is kept by every step.
    outputs : tuple of str
        Names of the values that leave.
    interface : Interface, optional
        Without one, ports have the values' names and maps are NHWC.

    Raises
    ------
    GraphError
        Two values share a name, a layer reads a value that does not exist (yet), or shapes do not fit.
    """

    name: str
    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    interface: Interface = field(default=Interface(inputs=(), outputs=()))

    def __post_init__(self) -> None:
        shapes = self.shapes
        if missing := [name for name in self.outputs if name not in shapes]:
            raise GraphError(f"Outputs of {self.name} must be values of the graph, not {', '.join(missing)}")
        if not self.outputs:
            raise GraphError(f"Graph {self.name} must have at least one output")
        if not self.interface.inputs and not self.interface.outputs:
            object.__setattr__(self, "interface", self._plain_interface())
        ports: list[InputPort | OutputPort] = [*self.interface.inputs, *self.interface.outputs]
        for port in ports:
            if port.value not in shapes:
                raise GraphError(
                    f"Port {port.name} of {self.name} must name a value of the graph, not {port.value}"
                )

    def _plain_interface(self) -> Interface:
        return Interface(
            inputs=tuple(InputPort(name=i.name, value=i.name, layout=_layout(i.shape)) for i in self.inputs),
            outputs=tuple(OutputPort(name=o, value=o, layout=_layout(self.shapes[o])) for o in self.outputs),
        )

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Inner shape of every value, by name."""
        shapes: dict[str, Shape] = {}
        for value in self.inputs:
            if value.name in shapes:
                raise GraphError(f"Values of {self.name} must have different names, not {value.name} twice")
            shapes[value.name] = value.shape
        for layer in self.layers:
            if layer.name in shapes:
                raise GraphError(f"Values of {self.name} must have different names, not {layer.name} twice")
            if missing := [name for name in layer.inputs if name not in shapes]:
                raise GraphError(f"Layer {layer.name} must read earlier values, not {', '.join(missing)}")
            shapes[layer.name] = infer_shape(layer, [shapes[name] for name in layer.inputs])
        return shapes

    @cached_property
    def by_name(self) -> dict[str, Layer]:
        """Layers by name."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def consumers(self) -> dict[str, tuple[Layer, ...]]:
        """Layers that read each value; a graph output is no consumer."""
        found: dict[str, list[Layer]] = {name: [] for name in self.shapes}
        for layer in self.layers:
            for name in dict.fromkeys(layer.inputs):
                found[name].append(layer)
        return {name: tuple(layers) for name, layers in found.items()}

    @property
    def is_quantized(self) -> bool:
        """Whether any value is encoded, or any weights are."""
        return any(isinstance(layer, Encode) or _has_blocks(layer) for layer in self.layers)

    @property
    def signature(self) -> Signature:
        """What the outside sees: names, dtypes, shapes with -1 for any batch."""
        inputs = []
        for port in self.interface.inputs:
            shape = outer_shape(self.shapes[port.value], port)
            inputs.append(
                TensorSpec(port.name, "float32", shape)
                if port.image is None
                else TensorSpec(port.name, "string", shape[:1])
            )
        outputs = [
            TensorSpec(port.name, "float32", outer_shape(self.shapes[port.value], port))
            for port in self.interface.outputs
        ]
        return Signature(tuple(inputs), tuple(outputs))

    def layer(self, name: str) -> Layer:
        """Return the layer called `name`; NotFoundError if there is none."""
        if name not in self.by_name:
            raise NotFoundError(f"Layer must be one of {self.name}, not {name!r}")
        return self.by_name[name]

    def with_layers(self, layers: Iterable[Layer]) -> "Graph":
        """Return the same graph with other layers."""
        return replace(self, layers=tuple(layers))


def outer_shape(shape: Shape, port: InputPort | OutputPort) -> tuple[int, ...]:
    """Shape of a port's tensor with its batch dimension, -1 for any size."""
    batch = -1 if port.batch is None else port.batch
    if port.layout == "NCHW":
        rows, columns, channels = shape
        return (batch, channels, rows, columns)
    return (batch, *shape)


def _layout(shape: Shape) -> Layout:
    return "NHWC" if len(shape) == 3 else "as_is"


def _has_blocks(layer: Layer) -> bool:
    return isinstance(layer, Convolution | MatMul) and isinstance(layer.weights, BlockWeights)
