"""What quantize decides: docs/spec/numerics.md §4."""

import numpy as np
import pytest

from gatecast.errors import FormatError, GraphError, NotFoundError
from gatecast.graph import (
    Activation,
    Affine,
    BatchNorm,
    Concat,
    Convolution,
    Elementwise,
    Encode,
    Flatten,
    GlobalAveragePool,
    Graph,
    Input,
    MatMul,
    MaxPool,
    Pad,
    Slice,
    Softmax,
    evaluate,
)
from gatecast.numerics import BFP6, BFP8, encode_block
from gatecast.quantization import Flushed, quantize, quantize_with_report

RNG = np.random.default_rng(4)


def floats(*shape, scale=1.0):
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


def conv(name, source, outputs, channels, kernel=1, **fields):
    weights = floats(outputs, kernel, kernel, channels // fields.get("groups", 1), scale=0.2)
    return Convolution(name=name, inputs=(source,), weights=weights, bias=fields.pop("bias", None), **fields)


def norm(name, source, channels):
    return BatchNorm(
        name=name, inputs=(source,), gamma=floats(channels), beta=floats(channels), mean=floats(channels),
        variance=np.abs(floats(channels)) + np.float32(0.1),
    )  # fmt: skip


def relu(name, source):
    return Activation(name=name, inputs=(source,), kind="relu")


def add(name, *sources):
    return Elementwise(name=name, inputs=sources, kind="add")


def graph(*layers, shape=(8, 8, 32), outputs=None):
    return Graph("net", (Input("x", shape),), layers, outputs or (layers[-1].name,))


def reads(net):
    return {layer.name: layer.inputs for layer in net.layers}


def kinds(net):
    return [type(layer).__name__ for layer in net.layers]


class TestFold:
    def test_a_norm_goes_into_the_weights_in_float64_and_is_rounded_once(self):
        net = graph(conv("c", "x", 32, 32), norm("b", "c", 32), relu("y", "b"))
        quantized, report = quantize_with_report(net)
        c, b = net.layers[0], net.layers[1]
        scale = b.gamma.astype(np.float64) / np.sqrt(b.variance.astype(np.float64) + float(np.float32(1e-5)))
        bias = (0 - b.mean.astype(np.float64)) * scale + b.beta.astype(np.float64)
        folded = quantized.layer("c")
        assert report.folded == [("b", "c")]
        assert (folded.bias == bias.astype(np.float32)).all()
        weights = (c.weights * scale[:, None, None, None]).astype(np.float32)
        block = encode_block(weights[3, 0, 0].tolist(), BFP8)
        assert tuple(folded.weights.mantissas[3, 0, 0, 0].tolist()) == block.mantissas
        assert int(folded.weights.exponents[3, 0, 0, 0]) - 127 == block.exponent

    def test_a_scale_after_a_norm_folds_too(self):
        scale = Affine(name="s", inputs=("b",), scale=floats(32), shift=floats(32))
        net = graph(conv("c", "x", 32, 32, bias=floats(32)), norm("b", "c", 32), scale)
        quantized, report = quantize_with_report(net)
        assert report.folded == [("b", "c"), ("s", "c")]
        assert kinds(quantized) == ["Encode", "Convolution"]
        assert quantized.outputs == ("c",) and quantized.interface.outputs[0].value == "c"
        assert quantized.interface.outputs[0].name == "s"

    def test_a_norm_whose_operand_others_read_becomes_scale_and_shift(self):
        net = graph(conv("c", "x", 32, 32), norm("b", "c", 32), add("y", "b", "c"))
        quantized, report = quantize_with_report(net)
        assert report.folded == []
        assert isinstance(quantized.layer("b"), Affine)

    def test_a_norm_before_a_convolution_becomes_scale_and_shift(self):
        net = graph(conv("c0", "x", 32, 32), MaxPool(name="p", inputs=("c0",), kernel=(2, 2), stride=(2, 2)),
                    norm("b", "p", 32), relu("r", "b"), conv("c", "r", 32, 32))  # fmt: skip
        quantized = quantize(net)
        assert reads(quantized)["b"] == ("p.bfp8",) and reads(quantized)["r"] == ("b",)

    def test_a_variance_that_is_not_positive_is_refused_by_name(self):
        bad = norm("b", "c", 32)
        bad.variance[7] = -1
        with pytest.raises(GraphError, match="Variance of b must be positive, not -1.0 at 7"):
            quantize(graph(conv("c", "x", 32, 32), bad))


class TestUnfold:
    def stem(self, kernel, channels, **fields):
        return graph(conv("c", "x", 8, channels, kernel, **fields), shape=(9, 11, channels))

    def test_columns_become_channels(self):
        net = self.stem(7, 3, stride=(2, 2), pads=(3, 3, 3, 3))
        quantized, report = quantize_with_report(net)
        assert report.unfolded == ["c"]
        assert kinds(quantized) == ["Pad", *["Slice"] * 7, "Concat", "Encode", "Convolution"]
        c = quantized.layer("c")
        assert c.weights.shape == (8, 7, 1, 21) and (c.stride, c.pads) == ((2, 1), (3, 0, 3, 0))
        assert quantized.shapes["c.unfolded"] == (9, 6, 21) and quantized.shapes["c"] == net.shapes["c"]

    def test_rows_become_channels_too_where_they_fit(self):
        quantized = quantize(self.stem(3, 3, pads=(1, 1, 1, 1)))
        c = quantized.layer("c")
        assert c.weights.shape == (8, 1, 1, 27) and (c.stride, c.pads) == ((1, 1), (0, 0, 0, 0))

    @pytest.mark.parametrize(
        ("kernel", "channels", "fields"),
        [(1, 3, {}), (3, 11, {}), (3, 4, {"groups": 2}), (3, 3, {"dilation": (2, 2)})],
    )
    def test_other_convolutions_stay_as_they_are(self, kernel, channels, fields):
        assert quantize_with_report(self.stem(kernel, channels, **fields))[1].unfolded == []

    def test_a_convolution_of_the_device_stays_as_it_is(self):
        net = graph(conv("c0", "x", 3, 32), relu("r", "c0"), conv("c", "r", 8, 3, 3))
        assert quantize_with_report(net)[1].unfolded == []

    @pytest.mark.parametrize(
        ("kernel", "channels", "fields"),
        [
            (7, 3, {"stride": (2, 2), "pads": (3, 3, 3, 3)}),
            (3, 3, {"stride": (2, 2), "pads": (0, 0, 1, 1)}),
            (3, 1, {"pads": (1, 1, 1, 1)}),
            (5, 6, {"stride": (1, 3), "pads": (2, 0, 0, 2)}),
        ],
    )
    def test_the_values_are_the_same_up_to_the_order_of_the_sum(self, kernel, channels, fields):
        net = self.stem(kernel, channels, **fields)
        whole = Graph("net", net.inputs, (*net.layers,), net.outputs)
        from_stem = quantize(whole)
        x = floats(9, 11, channels)
        unfolded = [layer for layer in from_stem.layers if isinstance(layer, Pad | Slice | Concat)]
        values = evaluate(Graph("unfold", net.inputs, tuple(unfolded), ("c.unfolded",)), {"x": x})[
            "c.unfolded"
        ]
        c = from_stem.layer("c")
        weights = net.layers[0].weights.reshape(c.weights.shape)
        plain = Convolution(name="c", inputs=("x",), weights=weights, stride=c.stride, pads=c.pads)
        got = evaluate(Graph("plain", (Input("x", values.shape),), (plain,), ("c",)), {"x": values})["c"]
        np.testing.assert_allclose(got, evaluate(net, {"x": x})["c"], atol=1e-5)


class TestFuseAndEncode:
    def test_an_epilogue_is_not_rounded_inside(self):
        net = graph(conv("c", "x", 32, 32), relu("r", "c"), conv("y", "r", 32, 32))
        assert reads(quantize(net)) == {
            "x.bfp8": ("x",), "c": ("x.bfp8",), "r": ("c",), "r.bfp8": ("r",), "y": ("r.bfp8",),
        }  # fmt: skip

    def test_the_later_of_two_convolutions_takes_the_other_as_its_residual(self):
        net = graph(conv("a", "x", 32, 32), conv("b", "x", 32, 32), add("s", "b", "a"), relu("y", "s"))
        quantized, report = quantize_with_report(net)
        assert reads(quantized)["s"] == ("b", "a.bfp8") and reads(quantized)["y"] == ("s",)
        assert report.fused == [("s", "b"), ("y", "b")]

    def test_a_value_read_twice_is_rounded_before_the_addition(self):
        net = graph(
            conv("a", "x", 32, 32), relu("r", "a"), conv("b", "r", 32, 32), add("s", "r", "b"), relu("y", "s")
        )
        assert reads(quantize(net))["s"] == ("r.bfp8", "b")

    def test_nothing_joins_behind_an_activation(self):
        net = graph(conv("a", "x", 32, 32), conv("b", "x", 32, 32), relu("r", "b"), add("s", "a", "r"))
        assert reads(quantize(net))["s"] == ("a", "r.bfp8")

    @pytest.mark.parametrize("kind", ["leaky_relu", "hard_sigmoid", "hard_swish"])
    def test_other_activations_read_an_encoded_value_of_a_convolution(self, kind):
        layer = Activation(name="y", inputs=("c",), kind=kind, low=0.25, high=0.5)
        assert reads(quantize(graph(conv("c", "x", 32, 32), layer)))["y"] == ("c.bfp8",)

    def test_they_may_follow_an_addition_but_not_a_scaled_product(self):
        for kind, scaled, expected in [
            ("add", True, "s"),
            ("multiply", True, "s.bfp8"),
            ("multiply", False, "m"),
        ]:
            layers = [
                conv("c", "x", 32, 32),
                MaxPool(name="p", inputs=("c",), kernel=(1, 1), stride=(1, 1)),
                Elementwise(name="m", inputs=("p", "c"), kind=kind),
            ]
            if scaled:
                layers.append(Affine(name="s", inputs=("m",), scale=floats(32), shift=floats(32)))
            layers.append(Activation(name="y", inputs=(layers[-1].name,), kind="leaky_relu", low=0.1))
            assert reads(quantize(graph(*layers)))["y"] == (expected,)

    def test_outputs_are_float_and_also_encoded_where_the_device_reads_them(self):
        net = graph(conv("a", "x", 32, 32), conv("b", "a", 32, 32), outputs=("a", "b"))
        quantized = quantize(net)
        assert quantized.outputs == ("a", "b") and reads(quantized)["b"] == ("a.bfp8",)

    def test_the_host_reads_a_stored_value_where_there_is_one(self):
        gate = Activation(name="g", inputs=("a",), kind="sigmoid")
        product = Elementwise(name="m", inputs=("a", "g"), kind="multiply")
        layers = [conv("a", "x", 32, 32), gate, product, conv("y", "m", 8, 32)]
        read = reads(quantize(graph(*layers)))
        assert read["g"] == ("a.bfp8",) and read["m"] == ("a.bfp8", "g.bfp8")
        lone = reads(quantize(graph(*layers[:2])))
        assert lone["g"] == ("a",)

    def test_work_before_the_first_convolution_stays_in_float(self):
        scale = Affine(name="s", inputs=("x",), scale=floats(32), shift=floats(32))
        read = reads(quantize(graph(scale, relu("r", "s"), conv("y", "r", 8, 32))))
        assert read == {"s": ("x",), "r": ("s",), "r.bfp8": ("r",), "y": ("r.bfp8",)}

    def test_a_head_of_pool_product_and_softmax(self):
        product = MatMul(name="f", inputs=("g",), weights=floats(10, 1, 1, 32), bias=floats(10))
        net = graph(conv("c", "x", 32, 32), GlobalAveragePool(name="g", inputs=("c",)), product,
                    Softmax(name="y", inputs=("f",)))  # fmt: skip
        assert reads(quantize(net)) == {
            "x.bfp8": ("x",), "c": ("x.bfp8",), "c.bfp8": ("c",), "g": ("c.bfp8",), "g.bfp8": ("g",),
            "f": ("g.bfp8",), "y": ("f",),
        }  # fmt: skip

    def test_a_flatten_is_the_hosts(self):
        net = graph(conv("c", "x", 32, 32), Flatten(name="y", inputs=("c",)))
        assert reads(quantize(net))["y"] == ("c",)


class TestFormats:
    NET = graph(conv("a", "x", 32, 32), relu("r", "a"), conv("b", "r", 32, 32), conv("y", "b", 32, 32))

    def formats(self, net):
        return {
            layer.name: layer.weights.format.name for layer in net.layers if isinstance(layer, Convolution)
        }

    def encoded(self, net):
        return [layer.name for layer in net.layers if isinstance(layer, Encode)]

    def test_the_first_convolution_keeps_bfp8(self):
        net = quantize(self.NET, "bfp5/bfp6")
        assert self.formats(net) == {"a": "bfp8", "b": "bfp5", "y": "bfp5"}
        assert self.encoded(net) == ["x.bfp8", "r.bfp6", "b.bfp6"]

    def test_the_first_format_and_overrides_are_the_callers(self):
        net = quantize(self.NET, "bfp6", first="bfp7", overrides={"b": "bfp4/bfp8"})
        assert self.formats(net) == {"a": "bfp7", "b": "bfp4", "y": "bfp6"}
        assert self.encoded(net) == ["x.bfp7", "r.bfp8", "b.bfp6"]

    def test_a_value_may_be_read_in_two_formats(self):
        net = graph(
            conv("a", "x", 32, 32), conv("b", "a", 32, 32), conv("c", "a", 32, 32), add("y", "b", "c")
        )
        quantized = quantize(net, "bfp8", overrides={"c": "bfp6"})
        assert self.encoded(quantized) == ["x.bfp8", "a.bfp8", "a.bfp6", "b.bfp8"]
        assert quantized.layer("a.bfp6").format == BFP6

    def test_the_same_formats_again_change_nothing(self):
        net = quantize(self.NET, "bfp5/bfp6", overrides={"b": "bfp8"})
        assert quantize(net, "bfp5/bfp6", overrides={"b": "bfp8"}) is net

    def test_other_formats_start_from_the_float_network(self):
        net = quantize(self.NET)
        with pytest.raises(GraphError, match="Layer b of net must be bfp6, but is bfp8 already") as caught:
            quantize(net, "bfp6")
        assert "Start again from the float network" in caught.value.hint

    def test_bad_formats_and_names_are_refused(self):
        with pytest.raises(FormatError, match="Format must be one of"):
            quantize(self.NET, "int8")
        with pytest.raises(
            NotFoundError, match="Overrides must name convolutions or matrix products of net, not r"
        ):
            quantize(self.NET, overrides={"r": "bfp6"})


class TestLimits:
    def test_small_constants_become_zero_and_are_reported(self):
        bias = floats(32)
        bias[[1, 5]] = [1e-30, -1e-40]
        quantized, report = quantize_with_report(graph(conv("c", "x", 32, 32, bias=bias)))
        assert report.flushed == [Flushed("c", "bias", 2)]
        assert quantized.layer("c").bias[[1, 5]].tolist() == [0.0, 0.0]
        assert not np.signbit(quantized.layer("c").bias[5])

    def test_large_constants_are_refused_by_name(self):
        bias = floats(32)
        bias[9] = 1e20
        with pytest.raises(
            GraphError, match=r"Bias of c must be finite and at most 1.84467e\+19, not 1e\+20 at 9"
        ):
            quantize(graph(conv("c", "x", 32, 32, bias=bias)))

    def test_weights_that_are_not_finite_are_refused_by_name_and_index(self):
        net = graph(conv("c", "x", 32, 32))
        net.layers[0].weights[3, 0, 0, 2] = np.nan
        with pytest.raises(GraphError, match=r"Weights of c must be finite, not nan at \[3, 0, 0, 2\]"):
            quantize(net)

    def test_blocks_of_tiny_weights_are_reported(self):
        net = graph(conv("c", "x", 32, 32))
        net.layers[0].weights[3] = 1e-20
        assert Flushed("c", "weight blocks", 1) in quantize_with_report(net)[1].flushed

    def test_a_slope_of_zero_is_a_relu_and_one_is_refused(self):
        def leaky(slope):
            return graph(
                conv("c", "x", 32, 32), Activation(name="y", inputs=("c",), kind="leaky_relu", low=slope)
            )

        assert quantize(leaky(1e-9)).layer("y").kind == "relu"
        with pytest.raises(GraphError, match="Slope of y must be at least 0 and below 1, not 1.5"):
            quantize(leaky(1.5))

    def test_a_missing_clip_limit_stays_missing(self):
        layer = Activation(name="y", inputs=("c",), kind="clip", low=1e-30)
        clip = quantize(graph(conv("c", "x", 32, 32), layer)).layer("y")
        assert (clip.low, clip.high) == (0.0, 2.0**127)


class TestGroups:
    @pytest.mark.parametrize(("channels", "groups"), [(32, 32), (64, 2), (48, 3), (96, 2), (70, 2), (40, 5)])
    def test_weights_lie_lane_for_lane_on_stored_blocks(self, channels, groups):
        net = graph(conv("c", "x", 2 * groups, channels, 3, groups=groups), shape=(4, 4, channels))
        c = quantize(net).layer("c")
        weights, per_group = net.layers[0].weights, channels // groups
        lanes = c.weights.decode().reshape(2 * groups, 3, 3, -1)
        for output in range(2 * groups):
            group = output // 2
            start = group * per_group - c.first_blocks[group] * 32
            own = lanes[output, ..., start : start + per_group]
            assert np.abs(own - weights[output]).max() <= np.abs(weights[output]).max() * 2.0**-6
            assert not np.delete(lanes[output], np.s_[start : start + per_group], axis=-1).any()

    def test_a_grouped_network_is_close_to_its_float_values(self):
        net = graph(conv("c", "x", 70, 70, 3, groups=2, pads=(1, 1, 1, 1)), shape=(5, 5, 70))
        x = floats(5, 5, 70)
        got, expected = (evaluate(n, {"x": x})["c"] for n in (quantize(net), net))
        signal, noise = (expected**2).sum(), ((got - expected) ** 2).sum()
        assert 10 * np.log10(signal / noise) > 30
