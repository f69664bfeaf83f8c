"""Random small float networks that can be quantised, for property tests of interchange and compiler.

`random_graph(seed)` is deterministic. Weights and biases are such that values stay of a size near one.
"""

from dataclasses import dataclass, field

import numpy as np

from gatecast import graph as op
from gatecast.errors import GraphError
from gatecast.graph import Graph, Input, InputPort, Interface, Layer, OutputPort

CHANNELS = (1, 3, 8, 16, 24, 32, 40, 48, 64, 72, 96)


@dataclass
class Builder:
    """Layers so far; `maps` are the feature maps that later layers may read."""

    rng: np.random.Generator
    input: Input
    layers: list[Layer] = field(default_factory=list)
    maps: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.shapes = {self.input.name: self.input.shape}
        self.maps.append(self.input.name)

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability):
        return bool(self.rng.random() < probability)

    def recent(self):
        """One of the last maps, the last one most often."""
        return self.maps[-1] if self.chance(0.7) else self.pick(self.maps[-4:])

    def normal(self, *shape, scale=1.0):
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def add(self, layer_type, *inputs, **fields):
        """Add a layer and return its name."""
        layer = layer_type(name=f"{layer_type.__name__.lower()}_{len(self.layers)}", inputs=inputs, **fields)
        self.shapes[layer.name] = op.infer_shape(layer, [self.shapes[name] for name in inputs])
        self.layers.append(layer)
        if len(self.shapes[layer.name]) == 3:
            self.maps.append(layer.name)
        return layer.name


def convolution(b):
    source = b.recent()
    channels = b.shapes[source][2]
    divisors = [g for g in range(1, channels + 1) if channels % g == 0]
    groups = 1 if b.chance(0.6) else b.pick(divisors)
    depthwise = groups == channels and b.chance(0.7)
    outputs = channels if depthwise else groups * max(1, b.pick(CHANNELS) // groups)
    kernel = b.pick([(1, 1), (3, 3), (3, 3), (5, 5), (1, 3), (3, 1), (2, 2), (7, 7)])
    dilation = b.pick([(1, 1), (1, 1), (1, 1), (2, 2), (1, 2)])
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    same = (spans[0] // 2, spans[1] // 2, (spans[0] - 1) // 2, (spans[1] - 1) // 2)
    pads = same if b.chance(0.7) else tuple(int(n) for n in b.rng.integers(0, 3, 4))
    per_group = channels // groups
    scale = 1 / np.sqrt(per_group * kernel[0] * kernel[1])
    name = b.add(
        op.Convolution,
        source,
        weights=b.normal(outputs, *kernel, per_group, scale=scale),
        bias=b.normal(outputs, scale=0.1) if b.chance(0.7) else None,
        stride=b.pick([(1, 1), (1, 1), (2, 2), (1, 2)]),
        pads=pads,
        dilation=dilation,
        groups=groups,
    )
    if b.chance(0.3):
        name = norm(b, name)
    if b.chance(0.3):
        name = residual(b, name) or name
    if b.chance(0.6):
        activation(b, name)


def norm(b, name):
    """A batch norm, or the scale and shift that some exporters write for one."""
    channels = b.shapes[name][-1]
    if b.chance(0.5):
        return b.add(
            op.BatchNorm,
            name,
            gamma=b.normal(channels, scale=0.3) + np.float32(1),
            beta=b.normal(channels, scale=0.3),
            mean=b.normal(channels, scale=0.3),
            variance=np.abs(b.normal(channels)) + np.float32(0.5),
            epsilon=float(np.float32(1e-5)),
        )
    scale = b.normal(channels, scale=0.3) + np.float32(1)
    return b.add(op.Affine, name, scale=scale, shift=b.normal(channels, scale=0.3))


def residual(b, name):
    """Add another map of the same shape, or of one pixel."""
    shape = b.shapes[name]
    other = [m for m in b.maps if m != name and b.shapes[m] == shape]
    pixel = [m for m in b.maps if b.shapes[m] == (1, 1, shape[2]) and m != name]
    if other:
        pair = (name, b.pick(other)) if b.chance(0.5) else (b.pick(other), name)
        return b.add(op.Elementwise, *pair, kind="add")
    if pixel and b.chance(0.5):
        return b.add(op.Elementwise, name, b.pick(pixel), kind="multiply")
    return None


def activation(b, name=None):
    kind = b.pick(["relu", "relu", "relu", "clip", "leaky_relu", "hard_sigmoid", "hard_swish", "sigmoid"])
    low, high = {
        "clip": (0.0, 6.0) if b.chance(0.7) else (-1.0, 1.5),
        "leaky_relu": (float(np.float32(0.1)), op.Activation.high),
        "hard_sigmoid": (float(np.float32(1 / 6)), 0.5),
        "hard_swish": (float(np.float32(1 / 6)), 0.5),
    }.get(kind, (op.Activation.low, op.Activation.high))
    return b.add(op.Activation, name or b.recent(), kind=kind, low=low, high=high)


def pool(b):
    kernel = b.pick([(2, 2), (3, 3), (2, 3)])
    stride = b.pick([(1, 1), (2, 2), (2, 1)])
    pads = tuple(int(b.rng.integers(0, k)) for k in (*kernel, *kernel)) if b.chance(0.5) else (0, 0, 0, 0)
    if b.chance(0.5):
        dilation = (1, 1) if b.chance(0.8) else (2, 1)
        b.add(op.MaxPool, b.recent(), kernel=kernel, stride=stride, pads=pads, dilation=dilation)
    else:
        b.add(op.AveragePool, b.recent(), kernel=kernel, stride=stride, pads=pads, count_pads=b.chance(0.5))


def elementwise(b):
    """Two or three maps of one shape."""
    first = b.recent()
    same = [m for m in b.maps if b.shapes[m] == b.shapes[first]]
    kind = b.pick(["add", "add", "subtract", "multiply", "maximum", "minimum"])
    others = [b.pick(same) for _ in range(1 if b.chance(0.7) else 2)]
    b.add(op.Elementwise, first, *others, kind=kind)


def concat(b):
    first = b.recent()
    fitting = [m for m in b.maps if b.shapes[m][:2] == b.shapes[first][:2]]
    others = [b.pick(fitting) for _ in range(int(b.rng.integers(1, 3)))]
    if sum(b.shapes[m][2] for m in (first, *others)) <= 160:
        b.add(op.Concat, first, *others)


def squeeze_and_excite(b):
    source = b.recent()
    channels = b.shapes[source][2]
    pooled = b.add(op.GlobalAveragePool, source)
    weights = b.normal(channels, 1, 1, channels, scale=1 / np.sqrt(channels))
    gate = b.add(op.Convolution, pooled, weights=weights, bias=b.normal(channels, scale=0.1))
    gate = b.add(op.Activation, gate, kind="hard_sigmoid", low=float(np.float32(1 / 6)), high=0.5)
    b.add(op.Elementwise, source, gate, kind="multiply")


def slice_or_resize(b):
    source = b.recent()
    rows, columns, channels = b.shapes[source]
    if b.chance(0.5) and rows * columns <= 64:
        b.add(op.Resize, source, size=(rows * 2, columns * 2))
        return
    start = int(b.rng.integers(0, channels))
    stop = int(b.rng.integers(start + 1, channels + 1))
    b.add(op.Slice, source, starts=(0, 0, start), stops=(rows, columns, stop), steps=(1, 1, 1))


def classifier(b):
    source = b.maps[-1]
    if b.chance(0.5):
        source = b.add(op.GlobalAveragePool, source)
    elif b.chance(0.3):
        source = b.add(op.Flatten, source, order=b.pick(["chw", "hwc"]))
    outputs = int(b.rng.integers(2, 20))
    shape = b.shapes[source]
    window = shape if len(shape) == 3 else (1, 1, *shape)
    weights = b.normal(outputs, *window, scale=1 / np.sqrt(np.prod(window)))
    bias = b.normal(outputs, scale=0.1) if b.chance(0.8) else None
    scores = b.add(op.MatMul, source, weights=weights, bias=bias)
    return b.add(op.Softmax, scores) if b.chance(0.4) else scores


STEPS = (convolution,) * 6 + (activation, pool, elementwise, concat, squeeze_and_excite, slice_or_resize)


def random_graph(seed, steps=6):
    """Return a float network of about `steps` blocks, the first of them a convolution.

    Its one input has 1 to 40 channels on a map of 4 to 13 rows and columns; its outputs are scores or a map,
    and sometimes a map from its middle.
    """
    b = Builder(np.random.default_rng(seed), Input("images", (0, 0, 0)))
    shape = (int(b.rng.integers(4, 14)), int(b.rng.integers(4, 14)), b.pick([1, 3, 3, 4, 16, 32, 33, 40]))
    b.input = Input("images", shape)
    b.shapes["images"] = shape
    for step in (convolution, *(b.pick(STEPS) for _ in range(steps - 1))):
        for _ in range(10):
            try:
                step(b)
                break
            except GraphError:  # it does not fit the map that was picked
                continue
    if len(b.maps) == 1:
        b.add(op.Activation, "images", kind="relu")
    outputs = [classifier(b) if b.chance(0.7) else b.maps[-1]]
    if b.chance(0.2) and b.maps[-2] not in (*outputs, "images"):
        outputs.append(b.maps[-2])
    used = alive(b.layers, outputs)
    return Graph(f"random_{seed}", (b.input,), used, tuple(outputs), interface_of(b, outputs))


def alive(layers, outputs):
    """Layers that the outputs depend on."""
    wanted, kept = set(outputs), []
    for layer in reversed(layers):
        if layer.name in wanted:
            kept.append(layer)
            wanted.update(layer.inputs)
    return tuple(reversed(kept))


def interface_of(b, outputs):
    layouts = {name: "as_is" if len(b.shapes[name]) == 1 else b.pick(["NCHW", "NHWC"]) for name in b.shapes}
    batch = b.pick([None, None, 1])
    return Interface(
        inputs=(InputPort(name="images", value="images", layout=layouts["images"], batch=batch),),
        outputs=tuple(
            OutputPort(name=f"output_{i}" if b.chance(0.5) else o, value=o, layout=layouts[o], batch=batch)
            for i, o in enumerate(outputs)
        ),
    )


def random_input(graph, seed):
    """One image for `graph`: by name, standard normal."""
    rng = np.random.default_rng(seed)
    return {value.name: rng.standard_normal(value.shape).astype(np.float32) for value in graph.inputs}
