import numpy as np
import pytest

from gatecast.graph import (
    Activation,
    Affine,
    Chain,
    Convolution,
    Elementwise,
    Encode,
    GlobalAveragePool,
    Graph,
    Input,
    MaxPool,
    Step,
    is_private,
)
from gatecast.numerics import parse_format


def affine(name="scale"):
    return Affine(name=name, inputs=("x",), scale=np.ones(4, np.float32), shift=np.zeros(4, np.float32))


def convolution(name="conv"):
    weights = np.ones((4, 1, 1, 4), np.float32)
    return Convolution(name=name, inputs=("x",), weights=weights)


def add(name="sum", inputs=("conv", "x")):
    return Elementwise(name=name, inputs=inputs, kind="add")


def activation(kind, name="act", inputs=("conv",)):
    return Activation(name=name, inputs=inputs, kind=kind)


def encode():
    return Encode(name="e", inputs=("act",), format=parse_format("bfp8"))


def joined(root, *layers):
    chain = Chain.begin(root)
    return [chain.join(layer) for layer in layers]


def test_a_convolution_takes_all_steps_in_their_order():
    assert joined(convolution(), affine(), add(), activation("relu"), encode()) == [True] * 4


@pytest.mark.parametrize(
    "later, earlier", [(add(), affine()), (activation("relu"), add()), (encode(), activation("clip"))]
)
def test_a_step_never_follows_a_later_one(later, earlier):
    assert joined(convolution(), later, earlier) == [True, False]


def test_each_step_comes_at_most_once():
    assert joined(convolution(), activation("relu"), activation("relu", "again")) == [True, False]
    assert joined(affine(), affine("again")) == [False]


def test_a_convolution_leaves_the_longer_activations_to_the_vector_unit():
    for kind in ("leaky_relu", "hard_sigmoid", "hard_swish"):
        assert joined(convolution(), activation(kind)) == [False]
        assert joined(Elementwise(name="m", inputs=("x", "y"), kind="add"), activation(kind)) == [True]


def test_a_product_that_is_scaled_has_no_room_for_an_activation_with_a_factor():
    product = Elementwise(name="m", inputs=("x", "y"), kind="multiply")
    assert joined(product, affine(), activation("leaky_relu")) == [True, False]
    assert joined(product, affine(), activation("relu")) == [True, True]
    assert joined(product, activation("leaky_relu")) == [True]


@pytest.mark.parametrize("kind", ["sigmoid", "silu"])
def test_what_only_the_host_computes_joins_nothing(kind):
    assert joined(Elementwise(name="m", inputs=("x", "y"), kind="add"), activation(kind)) == [False]


def test_a_pool_takes_only_its_encode():
    for pool in (
        GlobalAveragePool(name="p", inputs=("x",)),
        MaxPool(name="p", inputs=("x",), kernel=(2, 2), stride=(2, 2)),
    ):
        assert joined(pool, affine(), activation("relu"), encode()) == [False, False, True]


def test_only_a_sum_of_two_behind_a_convolution_is_a_residual():
    assert joined(convolution(), add(inputs=("conv", "x", "y"))) == [False]
    assert joined(convolution(), Elementwise(name="m", inputs=("conv", "x"), kind="multiply")) == [False]
    assert joined(Elementwise(name="m", inputs=("x", "y"), kind="add"), add()) == [False]


def test_the_last_step_so_far_is_that_of_the_first_layer():
    steps = [Chain.begin(layer).step for layer in (convolution(), affine(), activation("relu"), encode())]
    assert steps == [Step.START, Step.AFFINE, Step.ACTIVATION, Step.ENCODE]


def test_a_value_is_private_if_one_layer_reads_it_once_and_nobody_else_sees_it():
    relu, twice = activation("relu", inputs=("conv",)), add(inputs=("act", "act"))
    graph = Graph(
        name="g", inputs=(Input("x", (2, 2, 4)),), layers=(convolution(), relu, twice), outputs=("sum",)
    )
    assert is_private(graph, "conv", relu)
    assert not is_private(graph, "act", twice)
    assert not is_private(graph, "sum", activation("relu", "after", ("sum",)))
