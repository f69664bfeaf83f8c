"""The layers of a vision network, as frozen records.

A layer has a name, the names of the values it reads, and makes one value that bears its own name. All
feature maps are (rows, columns, channels) of one image; vectors are (channels,). Weights keep the
reduction axis last: (outputs, kernel rows, kernel columns, input channels of a group).

Ref: docs/spec/numerics.md §§2-3 for what each computes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gatecast.errors import GraphError
from gatecast.numerics import (
    BLOCK_SIZE,
    NO_LIMIT,
    Format,
    Window,
    decode_blocks,
    in_range,
)

Float32 = npt.NDArray[np.float32]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
"""Top, left, bottom, right."""


@dataclass(frozen=True, eq=False)
class BlockWeights:
    """Weights in block floating point, kept verbatim.

    Piece p of an output's group belongs to stored block ``first_blocks[group] + p`` of the input, lane for
    lane; lanes outside the group's channels are 0. Without groups, piece p is simply input block p.

    Parameters
    ----------
    format : Format
    mantissas : int8 ``[O, kh, kw, P, 32]``
    exponents : uint8 ``[O, kh, kw, P]``, biased by 127
    channels : int
        Input channels of a group, so that the shape without padding is known.
    """

    format: Format
    mantissas: npt.NDArray[np.int8]
    exponents: npt.NDArray[np.uint8]
    channels: int

    def __post_init__(self) -> None:
        if self.mantissas.shape != (*self.exponents.shape, BLOCK_SIZE):
            raise GraphError(
                f"Mantissas must have the shape of the exponents and {BLOCK_SIZE} more, "
                f"not {self.mantissas.shape} and {self.exponents.shape}"
            )
        if not in_range(self.mantissas, self.exponents, self.format).all():
            raise GraphError(
                f"Weights must keep to the range of {self.format}: symmetric mantissas, exponents ±48"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(outputs, kernel rows, kernel columns, input channels of a group)."""
        outputs, rows, columns, _ = self.exponents.shape
        return (outputs, rows, columns, self.channels)

    def decode(self) -> Float32:
        """Values as float32 ``[O, kh, kw, P, 32]``, exactly."""
        return decode_blocks(self.mantissas, self.exponents, self.format)


def first_blocks(channels: int, groups: int) -> tuple[int, ...]:
    """For each group of `channels` input channels, the stored block that its first channel lies in."""
    return tuple(group * channels // BLOCK_SIZE for group in range(groups))


def pieces_of(channels: int, groups: int) -> int:
    """Most stored blocks that one group of `channels` channels touches."""
    spans = ((g * channels // BLOCK_SIZE, ((g + 1) * channels - 1) // BLOCK_SIZE) for g in range(groups))
    return max(last - first + 1 for first, last in spans)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """Base of all layers: `name` is also the name of the value it makes."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution(Layer):
    """2-D convolution; `weights` (O, kh, kw, I / groups), float32 or in blocks; `bias` (O,) or None."""

    weights: Float32 | BlockWeights
    bias: Float32 | None = None
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def kernel(self) -> Pair:
        """Kernel rows and columns."""
        return (self.weights.shape[1], self.weights.shape[2])

    @property
    def window(self) -> Window:
        """Stride, pads and dilation as the arithmetic takes them."""
        return Window(self.stride, self.pads, self.dilation)

    @property
    def first_blocks(self) -> tuple[int, ...]:
        """For each group, the stored block of the input that its weights' piece 0 belongs to."""
        return first_blocks(self.weights.shape[3], self.groups)


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMul(Layer):
    """Fully connected layer over a whole value: `weights` (O, rows, columns, channels) of the value read.

    A vector counts as a map of one pixel. The result is a vector (O,).
    """

    weights: Float32 | BlockWeights
    bias: Float32 | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchNorm(Layer):
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta`` for each channel."""

    gamma: Float32
    beta: Float32
    mean: Float32
    variance: Float32
    epsilon: float = float(np.float32(1e-5))  # as files hold it


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine(Layer):
    """``fl32(fl32(x * scale) + shift)`` for each channel: a batch norm that could not be folded."""

    scale: Float32
    shift: Float32


ActivationKind = Literal["relu", "clip", "leaky_relu", "hard_sigmoid", "hard_swish", "sigmoid", "silu"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Activation(Layer):
    """One value at a time.

    Parameters
    ----------
    kind : str
        ``relu``; ``clip`` to [low, high]; ``leaky_relu`` with slope `low`; ``hard_sigmoid``, ``hard_swish``
        with alpha `low` and beta `high`; ``sigmoid`` and ``silu``, which only the host computes.
    low, high : float
    """

    kind: ActivationKind
    low: float = -NO_LIMIT
    high: float = NO_LIMIT


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool(Layer):
    """Largest value of each window; positions outside the map do not count."""

    kernel: Pair
    stride: Pair
    pads: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    ceil: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePool(Layer):
    """Mean of each window. `count_pads`: declared padding counts as zeros; what `ceil` adds never does."""

    kernel: Pair
    stride: Pair
    pads: Pads = (0, 0, 0, 0)
    ceil: bool = False
    count_pads: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class GlobalAveragePool(Layer):
    """Mean of each channel over the whole map: (rows, columns, channels) to (1, 1, channels)."""


ElementwiseKind = Literal["add", "subtract", "multiply", "maximum", "minimum"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Elementwise(Layer):
    """Two or more values, from left to right; (1, 1, channels) broadcasts over a map."""

    kind: ElementwiseKind


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Layer):
    """Joined along `axis` of the inner shape; -1 is the channels."""

    axis: int = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Flatten(Layer):
    """A map to a vector in the order (channel, row, column) of NCHW files, or as it lies: ``order="hwc"``."""

    order: Literal["chw", "hwc"] = "chw"


@dataclass(frozen=True, kw_only=True, eq=False)
class Reshape(Layer):
    """The same values in the same order with another inner shape."""

    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Transpose(Layer):
    """Axes of the inner shape in another order: axis i of the result is axis ``order[i]`` of the input."""

    order: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pad(Layer):
    """Zeros, or `value`, around a map: top, left, bottom, right."""

    pads: Pads
    value: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice(Layer):
    """``x[start:stop:step]`` along each axis of the inner shape; all non-negative, steps positive."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Softmax(Layer):
    """Softmax along `axis` of the inner shape; only the host computes it."""

    axis: int = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Resize(Layer):
    """A map resized to (rows, columns).

    ``nearest`` here is by whole factors, each pixel repeated; ``bilinear`` follows ONNX's coordinate modes
    `half_pixel`, `asymmetric` and `align_corners`, and only the host computes it.
    """

    size: Pair
    mode: Literal["nearest", "bilinear"] = "nearest"
    coordinates: Literal["half_pixel", "asymmetric", "align_corners"] = "half_pixel"


@dataclass(frozen=True, kw_only=True, eq=False)
class L2Norm(Layer):
    """``x / sqrt(max(sum(x * x), epsilon)) * scale`` over the channels of each pixel; on the host only."""

    scale: Float32 | None = None
    epsilon: float = float(np.float32(1e-12))


@dataclass(frozen=True, kw_only=True, eq=False)
class Encode(Layer):
    """Rounds a value to blocks along its channels; its value is the decoded one."""

    format: Format
