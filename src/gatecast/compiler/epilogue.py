"""What rides behind a sum or an operation, as the instruction takes it.

Ref: docs/spec/numerics.md §3.
"""

from collections.abc import Sequence

import numpy as np

from gatecast import graph as op
from gatecast.isa import Activation
from gatecast.numerics import BLOCK_SIZE, blocks_of

from .operations import Epilogue, Float32

_ACTIVATIONS = {
    "relu": Activation.RELU,
    "clip": Activation.CLIP,
    "leaky_relu": Activation.LEAKY_RELU,
    "hard_sigmoid": Activation.HARD_SIGMOID,
    "hard_swish": Activation.HARD_SWISH,
}
_PARAMETERS = {"relu": (), "clip": ("low", "high"), "leaky_relu": ("low",)}
"""Fields that an activation uses; both for those not listed."""


def vectors(values: Float32) -> Float32:
    """``[C]`` to float32 ``[blocks, 32]``, zero in absent lanes."""
    padded = np.zeros(blocks_of(len(values)) * BLOCK_SIZE, np.float32)
    padded[: len(values)] = values
    return padded.reshape(-1, BLOCK_SIZE) + np.float32(0)


def last_channels(channels: int) -> int:
    """Channels of the last block."""
    return (channels - 1) % BLOCK_SIZE + 1


def epilogue_of(layers: Sequence[op.Layer], channels: int, bias: Float32 | None = None) -> Epilogue:
    """Epilogue that the layers of a chain behind its first one make; their order is the chain's."""
    found: dict[str, object] = {"bias": None if bias is None else vectors(bias)}
    for layer in layers:
        match layer:
            case op.Affine():
                found |= {"scale": vectors(layer.scale), "shift": vectors(layer.shift)}
            case op.Activation():
                found["activation"] = _ACTIVATIONS[layer.kind]
                for name in _PARAMETERS.get(layer.kind, ("low", "high")):
                    found[name] = float(np.float32(getattr(layer, name)))
    return Epilogue(last_channels=last_channels(channels), **found)  # type: ignore[arg-type]
