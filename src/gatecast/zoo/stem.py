"""A network made to read the tensor of another preprocessing than the one its weights were trained with."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gatecast.errors import GraphError
from gatecast.graph import Affine, Convolution, Graph, Preprocessing

Float64 = npt.NDArray[np.float64]


def with_preprocessing(graph: Graph, rule: Preprocessing) -> Graph:
    """Return the network for tensors that `rule` makes: the difference in arithmetic goes into its stem.

    Where the old tensor is ``factor * new + shift``, the first convolution's weights take the factor, and
    ``shift / factor`` is added to the input before that convolution pads it with zeros, so that the padding
    means what it meant. Nothing is lost but the rounding of both. Size and resizing are `rule`'s.

    Raises
    ------
    GraphError
        The network has not one input with an image stage, read by one convolution only, or the channels are
        others.
    """
    ports = graph.interface.inputs
    old = ports[0].image if len(ports) == 1 else None
    if old is None or old.channels != rule.channels:
        raise GraphError(
            f"Network {graph.name} must have one input for pictures in {rule.channels}, so that it can get "
            "another preprocessing"
        )
    value = ports[0].value
    readers = graph.consumers[value]
    if len(readers) != 1 or not isinstance(readers[0], Convolution):
        raise GraphError(f"Input {value} of {graph.name} must be read by one convolution")
    factor, shift = _difference(old, rule)
    offset = Affine(
        name="offset",
        inputs=(value,),
        scale=np.ones(len(factor), np.float32),
        shift=(shift / factor).astype(np.float32),
    )
    stem = readers[0]
    weights = (np.asarray(stem.weights, np.float64) * factor).astype(np.float32)
    changed = {stem.name: replace(stem, inputs=(offset.name,), weights=weights)}
    layers = (offset, *(changed.get(layer.name, layer) for layer in graph.layers))
    interface = replace(graph.interface, inputs=(replace(ports[0], image=rule),))
    inputs = tuple(replace(found, shape=rule.shape) for found in graph.inputs)
    return replace(graph, inputs=inputs, layers=layers, interface=interface)


def _difference(old: Preprocessing, new: Preprocessing) -> tuple[Float64, Float64]:
    """Factor and shift by channel that make the old tensor's values of the new one's."""
    (old_factor, old_shift), (new_factor, new_shift) = _line(old), _line(new)
    factor = old_factor / new_factor
    return factor, old_shift - factor * new_shift


def _line(rule: Preprocessing) -> tuple[Float64, Float64]:
    """Factor and shift by channel that make the tensor of a picture's bytes."""
    count = len(rule.channels)
    mean = np.asarray(rule.mean or (0.0,) * count)
    std = np.asarray(rule.std or (1.0,) * count)
    return rule.scale / (rule.divide * std), -mean * rule.scale / std
