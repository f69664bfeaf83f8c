"""Encode as ONNX operators gives the contract's bits in stock runtimes, on blocks made to break it."""

import numpy as np
import pytest
from tests.interchange.runtimes import LEVELS, onnx_runtime, open_vino

from gatecast import graph as op
from gatecast.graph import Graph, Input, InputPort, Interface, OutputPort
from gatecast.interchange import to_onnx
from gatecast.numerics import BFP4, BFP5, BFP8, round_to_format

SIZE = (8, 9)


def encoder(fmt, channels, batch=None):
    """A network that only encodes, NHWC outside."""
    layer = op.Encode(name="y", inputs=("x",), format=fmt)
    interface = Interface(
        inputs=(InputPort(name="x", value="x", layout="NHWC", batch=batch),),
        outputs=(OutputPort(name="y", value="y", layout="NHWC", batch=batch),),
    )
    return Graph("encoder", (Input("x", (*SIZE, channels)),), (layer,), ("y",), interface)


def adversarial(channels, bits, seed, images=6):
    """One block for each pixel and 32 channels: powers, their neighbours, ties, tops, zeros, tiny, huge."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((images * SIZE[0] * SIZE[1], channels))
    x = np.ldexp(x, rng.integers(-60, 61, (len(x), 1))).astype(np.float32)
    power = np.exp2(rng.integers(-50, 51, (len(x), 1))).astype(np.float32)
    step = power / np.float32(2 ** (bits - 2))
    ties = (rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), x.shape) + 0.5).astype(np.float32) * step
    alone = np.zeros_like(x)
    kinds = [
        x,
        np.where(np.arange(channels) == 0, power, np.clip(x, -power, power)),  # a power at the top
        alone,  # all zero
        ties,
        np.clip(ties, -power, power),
        np.where(np.arange(channels) == 0, -np.nextafter(2 * power, np.float32(0)), alone),  # saturates
        np.full_like(x, 1e-40),  # subnormal
        np.where(np.arange(channels) == channels - 1, np.float32(3e38), x),
        np.where(np.arange(channels) == 0, np.nextafter(power, np.float32(0)), alone),  # just below a power
        np.where(np.arange(channels) == 0, np.nextafter(power, np.float32(np.inf)), ties),
        np.where(np.arange(channels) == 0, power * np.float32(2.0**-49), alone),  # about the clamp
    ]
    chosen = rng.integers(0, len(kinds), len(x))
    picked = np.stack(kinds)[chosen, np.arange(len(x))]
    return picked.astype(np.float32).reshape(images, *SIZE, channels)


CASES = [(BFP8, 64), (BFP8, 48), (BFP5, 32), (BFP5, 3), (BFP4, 33)]


@pytest.mark.parametrize(("fmt", "channels"), CASES)
@pytest.mark.parametrize("level", LEVELS)
def test_onnx_runtime_encodes_as_the_contract_does(fmt, channels, level):
    x = adversarial(channels, fmt.bits, seed=channels)
    found = onnx_runtime(to_onnx(encoder(fmt, channels)), {"x": x}, level)["y"]
    assert (found == round_to_format(x, fmt)).all()


@pytest.mark.parametrize(("fmt", "channels"), CASES)
@pytest.mark.parametrize("batch", [None, 6])
def test_openvino_encodes_as_the_contract_does(fmt, channels, batch):
    x = adversarial(channels, fmt.bits, seed=channels + 1)
    found = open_vino(to_onnx(encoder(fmt, channels, batch), inline=True), {"x": x})["y"]
    assert (found == round_to_format(x, fmt)).all()


@pytest.mark.parametrize("inline", [False, True])
def test_a_vector_is_encoded_as_a_map_is(inline):
    layer = op.Encode(name="y", inputs=("x",), format=BFP5)
    model = to_onnx(Graph("vector", (Input("x", (70,)),), (layer,), ("y",)), inline=inline)
    x = np.random.default_rng(0).standard_normal((3, 70)).astype(np.float32)
    expected = round_to_format(x, BFP5)
    assert (onnx_runtime(model, {"x": x})["y"] == expected).all()
    if inline:
        assert (open_vino(model, {"x": x})["y"] == expected).all()
