"""Graph to TensorFlow: a float network's layers as nodes of the graph that is being built.

Maps are NHWC with the batch in front. Weights become constants, or variables under TF-slim's names
(``scope/weights``, ``scope/biases``, ``scope/BatchNorm/gamma``, …) with their values beside them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gatecast import graph as op
from gatecast.errors import GraphError
from gatecast.graph import Graph, Layer, Pads

v1 = tf.compat.v1
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Written:
    """What `write_graph` added.

    Parameters
    ----------
    tensors : mapping of value name to tf.Tensor
        Inputs included.
    variables : tuple of (tf.Variable, array)
        In the order of the layers; nothing has set them yet. Empty if the weights are constants.
    """

    tensors: Mapping[str, Any]
    variables: tuple[tuple[Any, Float32], ...]


def write_graph(
    graph: Graph,
    inputs: Mapping[str, Any],
    *,
    names: Callable[[str], str] = str,
    variables: bool = False,
    trainable: bool = False,
) -> Written:
    """Add the layers of a float network to TensorFlow's default graph.

    Parameters
    ----------
    inputs : mapping of input name to tf.Tensor
        float32 with a leading batch dimension, maps as NHWC.
    names : function
        Gives for a layer's name that of its node. A convolution's or fully connected layer's is a scope: its
        variables and nodes lie in it.
    variables, trainable : bool
        Weights as variables; in the collection of those that train.

    Raises
    ------
    GraphError
        The network is quantised, an input is missing, or a layer has no node here.
    """
    if graph.is_quantized:
        raise GraphError(f"Network {graph.name} must be float to be written for TensorFlow, not quantised")
    if missing := [value.name for value in graph.inputs if value.name not in inputs]:
        raise GraphError(f"Inputs of {graph.name} must all be given; {', '.join(missing)} is missing")
    writer = _Writer(graph, dict(inputs), names, variables, trainable)
    for layer in graph.layers:
        values = [writer.tensors[name] for name in layer.inputs]
        writer.tensors[layer.name] = writer.write(layer, *values)
    return Written(writer.tensors, tuple(writer.made))


def set_variables(session: Any, variables: Sequence[tuple[Any, Float32]]) -> None:
    """Give variables their values in a session; no value becomes part of the graph."""
    # An initial value is fed in place of the zeros that the initializer would take.
    fed = {variable.initializer.inputs[1]: value for variable, value in variables}
    session.run([variable.initializer for variable, _ in variables], fed)


@dataclass
class _Writer:
    graph: Graph
    tensors: dict[str, Any]
    names: Callable[[str], str]
    variables: bool
    trainable: bool
    made: list[tuple[Any, Float32]] = field(default_factory=list)

    def parameter(self, name: str, value: Float32) -> Any:
        """A constant, or a variable whose value goes not into the graph but beside it."""
        if not self.variables:
            return tf.constant(value, name=name)
        variable = v1.get_variable(
            name, value.shape, tf.float32, initializer=v1.zeros_initializer(), trainable=self.trainable
        )
        self.made.append((variable, value))
        return variable

    def shape(self, layer: Layer) -> tuple[int, ...]:
        """Shape of the layer's value with any batch."""
        return (-1, *self.graph.shapes[layer.name])

    @singledispatchmethod
    def write(self, layer: Layer, *inputs: Any) -> Any:
        """Add the nodes of one layer and return its tensor."""
        raise GraphError(f"Layer {layer.name} ({type(layer).__name__}) has no form in TensorFlow here")

    @write.register
    def _convolution(self, layer: op.Convolution, x: Any) -> Any:
        name = self.names(layer.name)
        kernel = np.ascontiguousarray(np.asarray(layer.weights).transpose(1, 2, 3, 0))
        result = tf.nn.conv2d(
            x,
            self.parameter(f"{name}/weights", kernel),
            strides=layer.stride,
            padding=_padding(layer.pads),
            dilations=layer.dilation,
            name=f"{name}/Conv2D",
        )
        return self.biased(layer, name, result)

    @write.register
    def _matmul(self, layer: op.MatMul, x: Any) -> Any:
        name = self.names(layer.name)
        weights = np.asarray(layer.weights)
        matrix = np.ascontiguousarray(weights.reshape(weights.shape[0], -1).T)
        flat = tf.reshape(x, (-1, matrix.shape[0]), name=f"{name}/Reshape")
        result = tf.matmul(flat, self.parameter(f"{name}/weights", matrix), name=f"{name}/MatMul")
        return self.biased(layer, name, result)

    def biased(self, layer: op.Convolution | op.MatMul, name: str, x: Any) -> Any:
        """Add the bias, if there is one."""
        if layer.bias is None:
            return x
        return tf.nn.bias_add(x, self.parameter(f"{name}/biases", layer.bias), name=f"{name}/BiasAdd")

    @write.register
    def _batch_norm(self, layer: op.BatchNorm, x: Any) -> Any:
        name = self.names(layer.name)
        gamma, beta, mean, variance = (
            self.parameter(f"{name}/{part}", value)
            for part, value in (
                ("gamma", layer.gamma),
                ("beta", layer.beta),
                ("moving_mean", layer.mean),
                ("moving_variance", layer.variance),
            )
        )
        # Not tf.compat.v1.nn.fused_batch_norm: it raises an epsilon below 1.001e-5.
        return tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=layer.epsilon,
            is_training=False,
            name=f"{name}/FusedBatchNormV3",
        ).y

    @write.register
    def _affine(self, layer: op.Affine, x: Any) -> Any:
        name = self.names(layer.name)
        if (layer.scale != 1).any():
            x = tf.multiply(x, tf.constant(layer.scale), name=f"{name}/scaled")
        return tf.add(x, tf.constant(layer.shift), name=name)

    @write.register
    def _activation(self, layer: op.Activation, x: Any) -> Any:
        name = self.names(layer.name)
        match layer.kind:
            case "relu":
                return tf.nn.relu(x, name=name)
            case "clip":
                return tf.clip_by_value(x, layer.low, layer.high, name=name)
            case "leaky_relu":
                return tf.nn.leaky_relu(x, layer.low, name=name)
            case "sigmoid":
                return tf.sigmoid(x, name=name)
            case "silu":
                return tf.multiply(x, tf.sigmoid(x), name=name)
        gate = tf.clip_by_value(x * np.float32(layer.low) + np.float32(layer.high), 0.0, 1.0)
        return tf.identity(gate if layer.kind == "hard_sigmoid" else x * gate, name=name)

    @write.register
    def _max_pool(self, layer: op.MaxPool, x: Any) -> Any:
        if layer.ceil or layer.dilation != (1, 1):
            raise GraphError(f"Pool {layer.name} must be written without ceil and dilation for TensorFlow")
        return tf.nn.max_pool2d(
            x, layer.kernel, layer.stride, _padding(layer.pads), name=self.names(layer.name)
        )

    @write.register
    def _global_average_pool(self, layer: op.GlobalAveragePool, x: Any) -> Any:
        return tf.reduce_mean(x, [1, 2], keepdims=True, name=self.names(layer.name))

    @write.register
    def _average_pool(self, layer: op.AveragePool, x: Any) -> Any:
        if layer.ceil or any(layer.pads):
            raise GraphError(f"Pool {layer.name} must be written without padding and ceil for TensorFlow")
        return tf.nn.avg_pool2d(x, layer.kernel, layer.stride, "VALID", name=self.names(layer.name))

    @write.register
    def _elementwise(self, layer: op.Elementwise, *inputs: Any) -> Any:
        operation: Any = {
            "add": tf.add,
            "subtract": tf.subtract,
            "multiply": tf.multiply,
            "maximum": tf.maximum,
            "minimum": tf.minimum,
        }[layer.kind]
        result = inputs[0]
        for value in inputs[1:-1]:
            result = operation(result, value)
        return operation(result, inputs[-1], name=self.names(layer.name))

    @write.register
    def _concat(self, layer: op.Concat, *inputs: Any) -> Any:
        axis = layer.axis if layer.axis < 0 else layer.axis + 1
        return tf.concat(inputs, axis, name=self.names(layer.name))

    @write.register
    def _flatten(self, layer: op.Flatten, x: Any) -> Any:
        if layer.order == "chw" and len(x.shape) == 4:
            x = tf.transpose(x, (0, 3, 1, 2))
        return tf.reshape(x, self.shape(layer), name=self.names(layer.name))

    @write.register
    def _reshape(self, layer: op.Reshape, x: Any) -> Any:
        return tf.reshape(x, self.shape(layer), name=self.names(layer.name))

    @write.register
    def _transpose(self, layer: op.Transpose, x: Any) -> Any:
        return tf.transpose(x, (0, *(axis + 1 for axis in layer.order)), name=self.names(layer.name))

    @write.register
    def _pad(self, layer: op.Pad, x: Any) -> Any:
        return tf.pad(x, _around(layer.pads), constant_values=layer.value, name=self.names(layer.name))

    @write.register
    def _slice(self, layer: op.Slice, x: Any) -> Any:
        return tf.strided_slice(
            x,
            (0, *layer.starts),
            (0, *layer.stops),
            (1, *layer.steps),
            begin_mask=1,
            end_mask=1,
            name=self.names(layer.name),
        )

    @write.register
    def _softmax(self, layer: op.Softmax, x: Any) -> Any:
        axis = layer.axis if layer.axis < 0 else layer.axis + 1
        return tf.nn.softmax(x, axis, name=self.names(layer.name))


def _padding(pads: Pads) -> Any:
    return _around(pads) if any(pads) else "VALID"


def _around(pads: Pads) -> list[list[int]]:
    top, left, bottom, right = pads
    return [[0, 0], [top, bottom], [left, right], [0, 0]]
