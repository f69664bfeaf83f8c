"""Functions of one value at a time, and softmax."""

import numpy as np

from gatecast.graph import Activation, ActivationKind, Softmax
from gatecast.numerics import NO_LIMIT

from ..network import Network, NotSupportedError
from ..node import Node, operator
from ..values import ChannelNorm, Value
from .arithmetic import raised


def _activation(
    node: Node, network: Network, kind: ActivationKind, low: float = -NO_LIMIT, high: float = NO_LIMIT
) -> Value:
    view = network.view(node.input(0))
    return network.chain(view, Activation, node.name, kind=kind, low=_float32(low), high=_float32(high))


def _float32(number: float) -> float:
    """Return the float32 that ONNX would hold, widened."""
    return float(np.float32(number))


@operator("Relu")
def relu(node: Node, network: Network) -> Value:
    """``max(x, 0)``."""
    return _activation(node, network, "relu")


@operator("Sigmoid")
def sigmoid(node: Node, network: Network) -> Value:
    """``1 / (1 + exp(-x))``."""
    return _activation(node, network, "sigmoid")


@operator("Clip")
def clip(node: Node, network: Network) -> Value:
    """Limits as attributes or as inputs; either may be missing."""
    low, high = node.number("min", 1), node.number("max", 2)
    value = node.input(0)
    if isinstance(value, ChannelNorm):
        if high is not None and high < NO_LIMIT:
            raise NotSupportedError("limits a norm from above")
        return value if low is None else raised(value, low)
    low, high = _limit(low, -NO_LIMIT), _limit(high, NO_LIMIT)
    if low > high:
        raise NotSupportedError(f"limits must be in order, not {low} and {high}")
    if low == 0 and high == NO_LIMIT and not node.mark:
        return _activation(node, network, "relu")
    return _activation(node, network, "clip", low, high)


def _limit(given: float | None, missing: float) -> float:
    """Return a limit, `missing` where it is beyond every value."""
    return missing if given is None or abs(given) >= NO_LIMIT else given


@operator("LeakyRelu")
def leaky_relu(node: Node, network: Network) -> Value:
    """A slope below 0."""
    return _leaky(node, network, float(node.attribute("alpha", 0.01)))


@operator("PRelu")
def p_relu(node: Node, network: Network) -> Value:
    """A slope below 0 that is one constant for all channels."""
    slopes = np.unique(node.weights(1))
    if slopes.size != 1:
        raise NotSupportedError("has a slope for each channel; one slope for all is known")
    return _leaky(node, network, float(slopes[0]))


def _leaky(node: Node, network: Network, slope: float) -> Value:
    if slope == 0.0:
        return _activation(node, network, "relu")
    if not 0.0 < slope < 1.0:
        raise NotSupportedError(f"slope must be between 0 and 1, not {slope}")
    return _activation(node, network, "leaky_relu", slope)


@operator("HardSigmoid")
def hard_sigmoid(node: Node, network: Network) -> Value:
    """``clip(alpha * x + beta, 0, 1)``."""
    alpha, beta = float(node.attribute("alpha", 0.2)), float(node.attribute("beta", 0.5))
    return _activation(node, network, "hard_sigmoid", alpha, beta)


@operator("HardSwish")
def hard_swish(node: Node, network: Network) -> Value:
    """``x * clip(x / 6 + 1/2, 0, 1)``."""
    return _activation(node, network, "hard_swish", 1 / 6, 0.5)


@operator("Swish")
def swish(node: Node, network: Network) -> Value:
    """``x * sigmoid(x)``."""
    if node.attribute("alpha", 1.0) != 1.0:
        raise NotSupportedError("alpha must be 1")
    return _activation(node, network, "silu")


@operator("Softmax")
def softmax(node: Node, network: Network) -> Value:
    """Along one axis; before opset 13 along all from `axis` on, so only one of those may be longer than 1."""
    view, order = network.arrange(network.view(node.input(0)))
    rank = len(view.axes)
    axis = int(node.attribute("axis", 1 if node.opset < 13 else -1)) % rank
    if node.opset < 13:
        dims = network.dims(view)
        long = [i for i in range(axis, rank) if dims[i] > 1]
        if len(long) > 1:
            raise NotSupportedError("runs over several axes, as before opset 13")
        axis = long[0] if long else axis
    if axis == 0:
        raise NotSupportedError("runs over the batch")
    inner = order.index(axis)
    last = inner == len(order) - 1
    layer = Softmax(name=network.unique(node.name), inputs=(view.value,), axis=-1 if last else inner)
    return network.add(layer, order)
