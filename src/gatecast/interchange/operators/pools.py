"""Pools and reductions over space."""

import math
from collections.abc import Sequence

from gatecast.graph import AveragePool, GlobalAveragePool, MaxPool, Pair
from gatecast.numerics import average_factor

from ..network import MAP_ORDER, Network, NotSupportedError
from ..node import Node, operator
from ..values import Axes, ChannelNorm, SpaceSum, Value, View
from .windows import pair, window_pads


@operator("MaxPool")
def max_pool(node: Node, network: Network) -> Value:
    """Maximum of each window; positions outside do not count."""
    if len(node.proto.output) > 1 and node.proto.output[1]:
        raise NotSupportedError("makes indices")
    source = network.map(node.input(0))
    kernel, stride, dilation = _kernel(node), pair(node, "strides"), pair(node, "dilations")
    layer = MaxPool(
        name=network.unique(node.name),
        inputs=(source.value,),
        kernel=kernel,
        stride=stride,
        pads=window_pads(node, network.shapes[source.value], kernel, stride, dilation),
        dilation=dilation,
        ceil=bool(node.attribute("ceil_mode", 0)),
    )
    return network.add(layer)


def _kernel(node: Node) -> Pair:
    kernel = node.ints("kernel_shape") or []
    if len(kernel) != 2:
        raise NotSupportedError(f"kernel must have rows and columns, not {kernel}")
    return kernel[0], kernel[1]


@operator("AveragePool")
def average_pool(node: Node, network: Network) -> Value:
    """Mean of each window."""
    if pair(node, "dilations") != (1, 1):
        raise NotSupportedError("dilations must be 1")
    source = network.map(node.input(0))
    kernel, stride = _kernel(node), pair(node, "strides")
    layer = AveragePool(
        name=network.unique(node.name),
        inputs=(source.value,),
        kernel=kernel,
        stride=stride,
        pads=window_pads(node, network.shapes[source.value], kernel, stride, (1, 1)),
        ceil=bool(node.attribute("ceil_mode", 0)),
        count_pads=bool(node.attribute("count_include_pad", 0)),
    )
    return network.add(layer)


@operator("GlobalAveragePool")
def global_average_pool(node: Node, network: Network) -> Value:
    """Mean of each channel."""
    source = network.map(node.input(0))
    return network.add(GlobalAveragePool(name=network.unique(node.name), inputs=(source.value,)))


@operator("GlobalMaxPool")
def global_max_pool(node: Node, network: Network) -> Value:
    """Maximum of each channel: a max pool as large as the map."""
    source = network.map(node.input(0))
    return network.add(_whole_map_max(node, network, source))


def _whole_map_max(node: Node, network: Network, source: View) -> MaxPool:
    rows, columns, _ = network.shapes[source.value]
    return MaxPool(
        name=network.unique(node.name), inputs=(source.value,), kernel=(rows, columns), stride=(1, 1)
    )


@operator("ReduceMean")
def reduce_mean(node: Node, network: Network) -> Value:
    """Mean over the rows and columns of a map."""
    source, axes = _over_space(node, network)
    layer = GlobalAveragePool(name=network.unique(node.name), inputs=(source.value,))
    return View(network.add(layer).value, axes)


@operator("ReduceMax")
def reduce_max(node: Node, network: Network) -> Value:
    """Maximum over the rows and columns of a map."""
    source, axes = _over_space(node, network)
    return View(network.add(_whole_map_max(node, network, source)).value, axes)


@operator("ReduceSum")
def reduce_sum(node: Node, network: Network) -> Value:
    """Sum over the rows and columns; the factor that follows makes it a mean."""
    if isinstance(node.input(0), ChannelNorm):
        return _channel_sum(node, network)
    source, axes = _over_space(node, network)
    return SpaceSum(source, axes)


def mean_factor(network: Network, total: SpaceSum, factor: float) -> float:
    """Return what a mean must still be multiplied with where the sum is multiplied by `factor`."""
    count = math.prod(network.shapes[total.source.value][:2])
    return 1.0 if factor == float(average_factor(count)) else factor * count


def _reduced_axes(node: Node, rank: int) -> list[int]:
    axes = node.ints("axes", 1)
    if not axes:
        axes = [] if node.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in axes)


def _over_space(node: Node, network: Network) -> tuple[View, Axes]:
    """Return the map and the axes of the tensor that is left of it."""
    view = network.view(node.input(0))
    axes = _reduced_axes(node, len(view.axes))
    if axes == [2, 3] and len(view.axes) == 4:
        view = network.arranged(view, MAP_ORDER)
    view, order = network.arrange(view)
    if sorted(order.index(axis) if axis in order else -1 for axis in axes) != [0, 1] or len(order) != 3:
        raise NotSupportedError(f"reduces axes {axes}; only both the rows and columns of a map are known")
    kept = [() if axis in axes else group for axis, group in enumerate(view.axes)]
    if not node.attribute("keepdims", 1):
        kept = [group for axis, group in enumerate(kept) if axis not in axes]
    return view, tuple(kept)


@operator("ReduceSumSquare")
def reduce_sum_square(node: Node, network: Network) -> Value:
    """Sum of squares over the channels: the start of an L2 normalisation."""
    return ChannelNorm(_over_channels(node, network))


@operator("ReduceL2")
def reduce_l2(node: Node, network: Network) -> Value:
    """Euclidean norm over the channels."""
    return ChannelNorm(_over_channels(node, network), power=0.5)


def _over_channels(node: Node, network: Network) -> View:
    view = network.view(node.input(0))
    _check_channels(network, view, _reduced_axes(node, len(view.axes)))
    if not node.attribute("keepdims", 1):
        raise NotSupportedError("must keep the reduced dimension")
    return view


def _check_channels(network: Network, view: View, axes: Sequence[int]) -> None:
    last = len(network.shapes[view.value]) - 1
    if [view.axes[axis] for axis in axes] != [(last,)]:
        raise NotSupportedError(f"reduces axes {list(axes)}; only the channels are known here")


def _channel_sum(node: Node, network: Network) -> Value:
    norm = node.input(0)
    if not isinstance(norm, ChannelNorm) or norm.power != 0 or not node.attribute("keepdims", 1):
        raise NotSupportedError("sums something else than squares")
    _check_channels(network, norm.source, _reduced_axes(node, len(norm.source.axes)))
    return ChannelNorm(norm.source)
