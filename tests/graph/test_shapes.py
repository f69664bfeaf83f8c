import numpy as np
import pytest

from gatecast.errors import GraphError
from gatecast.graph import (
    Affine,
    AveragePool,
    BatchNorm,
    Concat,
    Convolution,
    Elementwise,
    Flatten,
    GlobalAveragePool,
    MatMul,
    MaxPool,
    Pad,
    Reshape,
    Resize,
    Slice,
    Transpose,
    infer_shape,
    pooled_size,
)

X = ("x",)


def weights(*shape):
    return np.zeros(shape, np.float32)


def conv(*shape, **fields):
    return Convolution(name="c", inputs=X, weights=weights(*shape), **fields)


@pytest.mark.parametrize(
    ("layer", "shapes", "expected"),
    [
        (conv(8, 3, 3, 4), [(5, 6, 4)], (3, 4, 8)),
        (conv(8, 3, 3, 4, stride=(2, 1), pads=(1, 0, 1, 1)), [(6, 6, 4)], (3, 5, 8)),
        (conv(8, 3, 2, 2, groups=2, dilation=(2, 3)), [(7, 7, 4)], (3, 4, 8)),
        (MatMul(name="m", inputs=X, weights=weights(10, 1, 1, 4)), [(4,)], (10,)),
        (MatMul(name="m", inputs=X, weights=weights(10, 2, 3, 4)), [(2, 3, 4)], (10,)),
        (
            MaxPool(name="p", inputs=X, kernel=(3, 3), stride=(2, 2), pads=(1, 1, 1, 1)),
            [(112, 112, 64)],
            (56, 56, 64),
        ),
        (AveragePool(name="p", inputs=X, kernel=(2, 2), stride=(2, 2), ceil=True), [(5, 5, 3)], (3, 3, 3)),
        (GlobalAveragePool(name="g", inputs=X), [(7, 7, 9)], (1, 1, 9)),
        (Elementwise(name="e", inputs=("a", "b"), kind="add"), [(2, 2, 3), (2, 2, 3)], (2, 2, 3)),
        (Elementwise(name="e", inputs=("a", "b"), kind="multiply"), [(1, 1, 3), (2, 2, 3)], (2, 2, 3)),
        (Concat(name="k", inputs=("a", "b")), [(2, 2, 3), (2, 2, 5)], (2, 2, 8)),
        (Concat(name="k", inputs=("a", "b"), axis=0), [(2, 2, 3), (1, 2, 3)], (3, 2, 3)),
        (Flatten(name="f", inputs=X), [(2, 3, 4)], (24,)),
        (Reshape(name="r", inputs=X, shape=(6, 4)), [(2, 3, 4)], (6, 4)),
        (Transpose(name="t", inputs=X, order=(2, 0, 1)), [(2, 3, 4)], (4, 2, 3)),
        (Pad(name="p", inputs=X, pads=(1, 2, 3, 4)), [(2, 3, 4)], (6, 9, 4)),
        (
            Slice(name="s", inputs=X, starts=(0, 1, 0), stops=(5, 6, 2), steps=(2, 2, 1)),
            [(5, 6, 4)],
            (3, 3, 2),
        ),
        (Resize(name="r", inputs=X, size=(4, 6)), [(2, 3, 4)], (4, 6, 4)),
    ],
)
def test_a_layer_makes_the_shape_it_should(layer, shapes, expected):
    assert infer_shape(layer, shapes) == expected


@pytest.mark.parametrize(
    ("layer", "shapes", "text"),
    [
        (
            conv(8, 3, 3, 4),
            [(5, 6, 3)],
            "Layer c must have weights for 3 input channels in 1 groups, not 8 outputs of 4",
        ),
        (conv(9, 3, 3, 2, groups=2), [(5, 5, 4)], "not 9 outputs of 2 channels a group"),
        (conv(8, 7, 7, 4), [(5, 6, 4)], "Layer c must make a value of positive size"),
        (
            conv(8, 1, 1, 4),
            [(4,)],
            "Layer c must read a map of rows, columns and channels, not a value of shape",
        ),
        (conv(8, 1, 1, 4, bias=weights(7)), [(2, 2, 4)], "Bias of c must have 8 values, not 7"),
        (MatMul(name="m", inputs=X, weights=weights(10, 1, 1, 5)), [(4,)], "Weights of m must be"),
        (
            Elementwise(name="e", inputs=X, kind="add"),
            [(1, 1, 3)],
            "Layer e must read at least two values, not 1",
        ),
        (
            Elementwise(name="e", inputs=("a", "b"), kind="add"),
            [(2, 1, 3), (2, 2, 3)],
            "must read values of one shape",
        ),
        (
            Concat(name="k", inputs=("a", "b")),
            [(2, 2, 3), (2, 1, 5)],
            "must join values that differ only along axis 2",
        ),
        (Reshape(name="r", inputs=X, shape=(5,)), [(2, 3)], "Layer r must keep 6 values"),
        (Transpose(name="t", inputs=X, order=(0, 0)), [(2, 3)], "must name each axis"),
        (Resize(name="r", inputs=X, size=(5, 6)), [(2, 3, 4)], "must repeat pixels by whole factors"),
        (
            MaxPool(name="p", inputs=X, kernel=(2, 2), stride=(2, 2), pads=(2, 0, 0, 0)),
            [(4, 4, 1)],
            "Padding of p must be",
        ),
        (
            Affine(name="a", inputs=X, scale=weights(3), shift=weights(4)),
            [(2, 2, 4)],
            "Scale of a must have 4 values",
        ),
        (
            BatchNorm(
                name="b", inputs=X, gamma=weights(4), beta=weights(4), mean=weights(4), variance=weights(5)
            ),
            [(2, 2, 4)],
            "Variance of b must have 4 values, not 5",
        ),
    ],
)
def test_a_layer_that_does_not_fit_names_itself_and_the_shapes(layer, shapes, text):
    with pytest.raises(GraphError, match=text):
        infer_shape(layer, shapes)


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pads", [(0, 0), (1, 1), (0, 1)])
def test_no_window_of_a_pool_starts_beyond_the_map(size, kernel, stride, pads):
    if size + sum(pads) < kernel or max(pads) >= kernel:
        return
    exact = pooled_size(size, kernel, stride, pads, ceil=False)
    rounded_up = pooled_size(size, kernel, stride, pads, ceil=True)
    assert exact == len(range(0, size + sum(pads) - kernel + 1, stride))
    assert exact <= rounded_up <= exact + 1
    assert (rounded_up - 1) * stride < size + pads[0]
