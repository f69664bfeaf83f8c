"""Small networks, one for each form that an instruction can take: float, to be quantised."""

from collections.abc import Callable

import numpy as np

from gatecast.graph import (
    Activation,
    Affine,
    AveragePool,
    Concat,
    Convolution,
    Elementwise,
    Flatten,
    GlobalAveragePool,
    Graph,
    Input,
    Layer,
    MatMul,
    MaxPool,
    Resize,
    Slice,
    Softmax,
)

NETWORKS: dict[str, Callable[[], Graph]] = {}
"""Makers by name."""


def network(make: Callable[["Draft"], None]) -> Callable[["Draft"], None]:
    """Enter a maker into NETWORKS."""

    def whole() -> Graph:
        draft = Draft(make.__name__.strip("_"))
        make(draft)
        return draft.graph()

    NETWORKS[make.__name__.strip("_")] = whole
    return make


class Draft:
    """Layers so far; each method adds one and returns its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.random = np.random.default_rng(sum(map(ord, name)))
        self.inputs: list[Input] = []
        self.layers: list[Layer] = []
        self.outputs: tuple[str, ...] = ()

    def graph(self) -> Graph:
        outputs = self.outputs or (self.layers[-1].name,)
        return Graph(self.name, tuple(self.inputs), tuple(self.layers), outputs)

    def input(self, *shape: int) -> str:
        self.inputs.append(Input(f"x{len(self.inputs)}", shape))
        return self.inputs[-1].name

    def add(self, layer: Layer) -> str:
        self.layers.append(layer)
        return layer.name

    def floats(self, *shape: int) -> np.ndarray:
        return self.random.normal(size=shape).astype(np.float32)

    def conv(self, x: str, o: int, i: int, kernel=(1, 1), name=None, groups=1, **fields) -> str:
        name = name or f"conv{len(self.layers)}"
        weights = self.floats(o, *kernel, i // groups)
        bias = self.floats(o)
        return self.add(
            Convolution(name=name, inputs=(x,), weights=weights, bias=bias, groups=groups, **fields)
        )

    def relu(self, x: str) -> str:
        return self.add(Activation(name=f"relu{len(self.layers)}", inputs=(x,), kind="relu"))

    def all(self, *values: str) -> None:
        """Make these the outputs."""
        self.outputs = values


@network
def plain(d: Draft) -> None:
    d.relu(d.conv(d.input(4, 5, 40), 70, 40, (3, 3), pads=(1, 1, 1, 1)))


@network
def stride_dilation_and_uneven_pads(d: Draft) -> None:
    x = d.conv(d.input(11, 9, 33), 35, 33, (3, 2), stride=(2, 3), pads=(0, 1, 2, 0), dilation=(2, 1))
    d.conv(x, 3, 35, (2, 2), pads=(3, 3, 3, 3))  # some windows lie in the padding alone


@network
def depthwise(d: Draft) -> None:
    x = d.conv(d.input(5, 4, 70), 70, 70, (3, 3), groups=70, pads=(1, 1, 1, 1), stride=(2, 1))
    d.conv(x, 140, 70, (3, 3), groups=70, pads=(0, 1, 1, 0))


@network
def groups(d: Draft) -> None:
    x = d.input(3, 4, 64)
    x = d.conv(x, 128, 64, (3, 3), groups=2, pads=(1, 1, 1, 1))  # a group is two output blocks
    x = d.conv(x, 96, 128, (1, 2), groups=32)  # a block of outputs has 10 groups and two thirds
    x = d.conv(x, 96, 96, (2, 2), groups=24, pads=(1, 0, 0, 0))  # eight groups in a block
    d.conv(x, 64, 96, (2, 2), groups=2)  # groups of 48 straddle blocks


@network
def straddling_groups(d: Draft) -> None:
    d.conv(d.input(4, 5, 72), 96, 72, (3, 3), groups=3, pads=(1, 1, 1, 1))


@network
def odd_groups_with_a_limit(d: Draft) -> None:
    x = d.conv(d.input(4, 5, 72), 51, 72, (3, 3), groups=3, pads=(1, 1, 1, 1))
    d.add(Activation(name="clip", inputs=(x,), kind="clip", low=0.25, high=4.0))


@network
def wide_depthwise(d: Draft) -> None:
    x = d.conv(d.input(10, 10, 96), 96, 96, (3, 3), groups=96, pads=(1, 1, 1, 1))
    d.conv(x, 32, 96)


@network
def residual(d: Draft) -> None:
    x = d.relu(d.conv(d.input(8, 8, 16), 64, 16, (3, 3), pads=(1, 1, 1, 1), name="stem"))
    y = d.relu(d.conv(x, 64, 64, (3, 3), pads=(1, 1, 1, 1), name="first"))
    y = d.conv(y, 64, 64, (3, 3), pads=(1, 1, 1, 1), name="second")
    y = d.relu(d.add(Elementwise(name="add", inputs=(y, x), kind="add")))
    y = d.add(GlobalAveragePool(name="mean", inputs=(y,)))
    d.add(MatMul(name="scores", inputs=(y,), weights=d.floats(10, 1, 1, 64), bias=d.floats(10)))


@network
def projection(d: Draft) -> None:
    x = d.input(6, 6, 32)
    y = d.conv(x, 64, 32, (3, 3), stride=(2, 2), pads=(1, 1, 1, 1))
    z = d.conv(x, 64, 32, stride=(2, 2))
    d.relu(d.add(Elementwise(name="add", inputs=(y, z), kind="add")))


@network
def concat_of_whole_blocks(d: Draft) -> None:
    x = d.conv(d.input(5, 4, 20), 32, 20)
    y = d.conv(x, 64, 32, (3, 3), pads=(1, 1, 1, 1))
    z = d.add(Concat(name="join", inputs=(x, y)))
    d.conv(z, 40, 96)


@network
def concat_of_odd_channels(d: Draft) -> None:
    x = d.conv(d.input(5, 4, 20), 20, 20)
    y = d.conv(x, 50, 20)
    z = d.add(Concat(name="join", inputs=(y, x, y)))
    d.conv(z, 40, 120)


@network
def dense_block(d: Draft) -> None:
    parts = [d.conv(d.input(4, 4, 32), 64, 32)]
    for number in range(3):
        joined = parts[0] if number == 0 else d.add(Concat(name=f"join{number}", inputs=tuple(parts)))
        width = 64 + 32 * number
        affine = Affine(name=f"norm{number}", inputs=(joined,), scale=d.floats(width), shift=d.floats(width))
        parts.append(d.conv(d.relu(d.add(affine)), 32, width, (3, 3), pads=(1, 1, 1, 1)))
    d.add(Concat(name="all", inputs=tuple(parts)))
    d.conv("all", 8, 160)


@network
def concat_of_concats(d: Draft) -> None:
    x = d.conv(d.input(3, 3, 32), 32, 32)
    y = d.conv(x, 32, 32)
    inner = d.add(Concat(name="inner", inputs=(x, y)))
    other = d.add(Concat(name="other", inputs=(y, x)))
    joined = d.add(Concat(name="outer", inputs=(inner, other, inner)))
    d.conv(joined, 32, 192)


@network
def slices(d: Draft) -> None:
    x = d.conv(d.input(6, 6, 32), 100, 32)

    def part(name: str, starts: tuple, stops: tuple, steps: tuple = (1, 1, 1)) -> str:
        return d.add(Slice(name=name, inputs=(x,), starts=starts, stops=stops, steps=steps))

    whole = part("blocks", (0, 0, 32), (6, 6, 96))
    tail = part("tail", (0, 0, 64), (6, 6, 100))
    odd = part("odd", (0, 0, 5), (6, 6, 50))
    space = part("space", (1, 0, 32), (6, 6, 64), (2, 3, 1))
    d.all(d.conv(whole, 8, 64), d.conv(tail, 8, 36), d.conv(odd, 8, 45), d.conv(space, 8, 32))


@network
def pools(d: Draft) -> None:
    x = d.conv(d.input(9, 8, 40), 40, 40)
    y = d.add(MaxPool(name="max", inputs=(x,), kernel=(3, 3), stride=(2, 2), pads=(1, 1, 1, 1)))
    fields = {"kernel": (3, 3), "stride": (2, 2), "ceil": True}
    a = d.add(AveragePool(name="inside", inputs=(x,), pads=(1, 1, 1, 1), **fields))
    b = d.add(AveragePool(name="counted", inputs=(x,), pads=(1, 1, 1, 1), count_pads=True, **fields))
    c = d.add(MaxPool(name="ceiled", inputs=(x,), kernel=(2, 2), stride=(2, 2), ceil=True))
    d.all(d.conv(y, 4, 40), d.conv(a, 4, 40), d.conv(b, 4, 40), c)


@network
def large_pools(d: Draft) -> None:
    x = d.conv(d.input(28, 28, 24), 40, 24)
    y = d.add(MaxPool(name="max", inputs=(x,), kernel=(14, 13), stride=(7, 5)))
    z = d.add(AveragePool(name="average", inputs=(x,), kernel=(14, 12), stride=(7, 8)))
    w = d.add(GlobalAveragePool(name="mean", inputs=(x,)))
    d.all(d.conv(y, 4, 40), d.conv(z, 4, 40), d.conv(w, 4, 40))


@network
def sums_of_many(d: Draft) -> None:
    x = d.conv(d.input(4, 5, 40), 40, 40)
    y, z = d.conv(x, 40, 40), d.conv(x, 40, 40)
    pooled = d.add(GlobalAveragePool(name="mean", inputs=(z,)))
    w = d.add(Elementwise(name="add", inputs=(pooled, x, y, z), kind="add"))
    v = d.add(Elementwise(name="most", inputs=(x, y, z), kind="maximum"))
    d.all(d.conv(w, 8, 40), d.relu(d.add(Elementwise(name="less", inputs=(v, x), kind="subtract"))))


@network
def sum_with_one_pixel(d: Draft) -> None:
    x = d.conv(d.input(4, 5, 40), 40, 40)
    pooled = d.add(GlobalAveragePool(name="mean", inputs=(x,)))
    y = d.add(Elementwise(name="add", inputs=(x, d.conv(pooled, 40, 40)), kind="add"))
    d.conv(y, 8, 40)


@network
def squeeze_and_excite(d: Draft) -> None:
    x = d.conv(d.input(5, 5, 40), 40, 40)
    x = d.add(Activation(name="swish", inputs=(x,), kind="hard_swish", low=1 / 6, high=0.5))
    s = d.add(GlobalAveragePool(name="squeeze", inputs=(x,)))
    s = d.relu(d.conv(s, 10, 40))
    s = d.conv(s, 40, 10)
    s = d.add(Activation(name="gate", inputs=(s,), kind="hard_sigmoid", low=0.2, high=0.5))
    x = d.add(Elementwise(name="excite", inputs=(s, x), kind="multiply"))
    d.conv(x, 16, 40)


@network
def upsample(d: Draft) -> None:
    x = d.conv(d.input(3, 5, 36), 36, 36)
    x = d.add(Resize(name="larger", inputs=(x,), size=(6, 15)))
    d.conv(x, 8, 36, (3, 3))


@network
def activations(d: Draft) -> None:
    x = d.conv(d.input(4, 4, 40), 40, 40)
    leaky = d.add(Activation(name="leaky", inputs=(x,), kind="leaky_relu", low=0.1))
    clipped = d.add(Activation(name="clip", inputs=(d.conv(leaky, 40, 40),), kind="clip", low=0.5, high=6.0))
    d.all(d.conv(clipped, 4, 40), leaky)


@network
def matmul_of_a_map(d: Draft) -> None:
    x = d.relu(d.conv(d.input(5, 6, 8), 40, 8, name="stem"))
    x = d.add(MatMul(name="fc1", inputs=(x,), weights=d.floats(50, 5, 6, 40), bias=d.floats(50)))
    d.add(MatMul(name="fc2", inputs=(d.relu(x),), weights=d.floats(7, 1, 1, 50)))


@network
def a_row_of_300(d: Draft) -> None:
    x = d.conv(d.input(1, 300, 8), 8, 8, (1, 290))
    d.conv(d.input(600, 1, 8), 8, 8, (3, 1), stride=(299, 1))
    d.all(x, d.layers[-1].name)


@network
def host_between(d: Draft) -> None:
    x = d.conv(d.input(4, 4, 32), 32, 32, name="before")
    y = d.add(Activation(name="sigmoid", inputs=(x,), kind="sigmoid"))
    z = d.conv(y, 32, 32, name="after")
    z = d.add(Elementwise(name="add", inputs=(z, x), kind="add"))
    z = d.add(Flatten(name="flat", inputs=(z,)))
    d.add(Softmax(name="softmax", inputs=(z,)))


@network
def late_residual(d: Draft) -> None:
    x = d.input(4, 4, 32)
    y = d.add(Activation(name="sigmoid", inputs=(d.conv(x, 32, 32, name="first"),), kind="sigmoid"))
    y = d.conv(y, 32, 32, name="second")
    z = d.conv(x, 32, 32, name="third")  # waits for `second`, which it is added to without rounding
    d.relu(d.add(Elementwise(name="add", inputs=(y, z), kind="add")))


@network
def several_outputs(d: Draft) -> None:
    x = d.conv(d.input(3, 4, 40), 40, 40, name="base")
    y = d.relu(x)
    d.all(x, y, d.conv(y, 100, 40, (3, 3), pads=(1, 1, 1, 1), name="head"))
