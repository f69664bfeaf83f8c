"""Unfold stems: kernel columns, and rows where they fit, become channels.

A block of 32 for the 3 channels of a picture would be nine tenths empty. The rewrite is ordinary layers
before the first encode, so it is visible, exported, and run by the host.

Ref: docs/spec/numerics.md §2, "Few input channels".
"""

from dataclasses import replace

import numpy as np

from gatecast.graph import Concat, Convolution, Graph, Layer, Pad, Shape, Slice
from gatecast.numerics import BLOCK_SIZE

from .formats import host_values
from .report import Report


def unfold(graph: Graph, report: Report) -> Graph:
    """Unfold each ungrouped, undilated convolution on host values with kw > 1 and kw * channels <= 32."""
    host = host_values(graph)
    layers: list[Layer] = []
    for layer in graph.layers:
        if isinstance(layer, Convolution) and layer.inputs[0] in host and _is_stem(layer):
            layers += _unfolded(layer, graph.shapes[layer.inputs[0]], graph.shapes[layer.name])
            report.unfolded.append(layer.name)
        else:
            layers.append(layer)
    return graph.with_layers(layers)


def _is_stem(layer: Convolution) -> bool:
    _, _, columns, channels = layer.weights.shape
    return layer.groups == 1 and layer.dilation == (1, 1) and columns > 1 and columns * channels <= BLOCK_SIZE


def _unfolded(layer: Convolution, shape: Shape, result: Shape) -> list[Layer]:
    outputs, rows, columns, channels = layer.weights.shape
    whole = rows * columns * channels <= BLOCK_SIZE  # the kernel's rows fit too
    top, left, bottom, right = layer.pads
    pads = (top, left, bottom, right) if whole else (0, left, 0, right)
    layers: list[Layer] = []
    source = layer.inputs[0]
    if any(pads):
        layers.append(Pad(name=f"{layer.name}.pad", inputs=(source,), pads=pads))
        source = layers[-1].name
    height, width = shape[0] + pads[0] + pads[2], result[1]
    taps = [(ky, kx) for ky in (range(rows) if whole else (0,)) for kx in range(columns)]
    stride_y = layer.stride[0] if whole else 1
    for ky, kx in taps:
        count = result[0] if whole else height
        stops = (ky + (count - 1) * stride_y + 1, kx + (width - 1) * layer.stride[1] + 1, channels)
        name = f"{layer.name}.tap{ky}_{kx}"
        steps = (stride_y, layer.stride[1], 1)
        layers.append(Slice(name=name, inputs=(source,), starts=(ky, kx, 0), stops=stops, steps=steps))
    joined = Concat(
        name=f"{layer.name}.unfolded", inputs=tuple(tap.name for tap in layers if isinstance(tap, Slice))
    )
    weights = np.asarray(layer.weights)
    weights = weights.reshape(outputs, 1, 1, -1) if whole else weights.reshape(outputs, rows, 1, -1)
    convolution = replace(
        layer,
        inputs=(joined.name,),
        weights=weights,
        stride=(1, 1) if whole else (layer.stride[0], 1),
        pads=(0, 0, 0, 0) if whole else (top, 0, bottom, 0),
    )
    return [*layers, joined, convolution]
