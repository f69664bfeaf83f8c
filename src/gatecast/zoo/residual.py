"""Residual networks as Graphs, from arrays under torchvision's names.

Ref: He et al., Deep Residual Learning for Image Recognition (2015), table 1 and figure 5. In version 1 the
first 1x1 convolution of a bottleneck strides, as there; in version 1.5, which torchvision has, the 3x3 does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from gatecast.graph import (
    Activation,
    BatchNorm,
    Convolution,
    Elementwise,
    GlobalAveragePool,
    Graph,
    Input,
    InputPort,
    Interface,
    Layer,
    MatMul,
    MaxPool,
    OutputPort,
    Preprocessing,
    Softmax,
)

Float32 = npt.NDArray[np.float32]
Parameter = Callable[[str, tuple[int, ...]], Float32]
"""Returns the array of a name, of the given shape: convolutions (O, I, kh, kw), the linear layer (O, I)."""


@dataclass(frozen=True)
class Stage:
    """Some blocks of one kind in a row; the first of them strides.

    Parameters
    ----------
    blocks : int
    kind : str
        ``basic``: two 3x3; ``bottleneck``: 1x1, 3x3, 1x1.
    inner, channels : int
        Inside the blocks, and of what they make.
    stride : int
    """

    blocks: int
    kind: Literal["basic", "bottleneck"]
    inner: int
    channels: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class ResidualNetwork:
    """Sizes of one residual network: a stem, stages, the mean over the map, and a linear classifier.

    `stride_on` says which convolution of a bottleneck strides: ``3x3`` (version 1.5) or ``1x1`` (version 1).
    """

    stem_channels: int
    stem_kernel: int
    stem_stride: int
    stem_pool: bool
    stages: tuple[Stage, ...]
    stride_on: Literal["3x3", "1x1"] = "3x3"


FASHION = ResidualNetwork(
    stem_channels=32,
    stem_kernel=3,
    stem_stride=1,
    stem_pool=False,
    stages=(Stage(1, "basic", 32, 32, 2), Stage(1, "basic", 64, 64, 2), Stage(1, "bottleneck", 32, 64, 1)),
)
RESNET50 = ResidualNetwork(
    stem_channels=64,
    stem_kernel=7,
    stem_stride=2,
    stem_pool=True,
    stages=tuple(
        Stage(blocks, "bottleneck", inner, 4 * inner, stride)
        for blocks, inner, stride in ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
    ),
)
RESNET50_V1 = ResidualNetwork(
    stem_channels=64,
    stem_kernel=7,
    stem_stride=2,
    stem_pool=True,
    stages=RESNET50.stages,
    stride_on="1x1",
)


def build_residual(
    name: str,
    network: ResidualNetwork,
    parameter: Parameter,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
) -> Graph:
    """Return the float Graph: input `images` with its image stage, output `probabilities`.

    The scores before the softmax are the value `fc`.
    """
    build = _Builder(parameter)
    x = build.convolution("conv1", "images", len(preprocessing.channels), network.stem_channels,
                          kernel=network.stem_kernel, stride=network.stem_stride)  # fmt: skip
    x = build.relu("relu", build.norm("bn1", x, network.stem_channels))
    if network.stem_pool:
        x = build.add(MaxPool(name="maxpool", inputs=(x,), kernel=(3, 3), stride=(2, 2), pads=(1, 1, 1, 1)))
    channels = network.stem_channels
    for number, stage in enumerate(network.stages, 1):
        for block in range(stage.blocks):
            stride = stage.stride if block == 0 else 1
            x = build.block(f"layer{number}.{block}", x, channels, stage, stride, network.stride_on)
            channels = stage.channels
    x = build.add(GlobalAveragePool(name="avgpool", inputs=(x,)))
    weights, bias = parameter("fc.weight", (len(labels), channels)), parameter("fc.bias", (len(labels),))
    x = build.add(MatMul(name="fc", inputs=(x,), weights=weights[:, None, None, :], bias=bias))
    build.add(Softmax(name="probabilities", inputs=(x,)))
    return Graph(
        name=name,
        inputs=(Input("images", preprocessing.shape),),
        layers=tuple(build.layers),
        outputs=("probabilities",),
        interface=classifier_interface("images", "probabilities", preprocessing, labels),
    )


def classifier_interface(
    images: str, probabilities: str, preprocessing: Preprocessing, labels: tuple[str, ...]
) -> Interface:
    """Return the ports that all known networks have, for values of these names."""
    return Interface(
        inputs=(InputPort(name="images", value=images, layout="NHWC", image=preprocessing),),
        outputs=(OutputPort(name="probabilities", value=probabilities),),
        labels=labels,
    )


@dataclass
class _Builder:
    """Collects layers; each method adds some and returns the name of the value they make."""

    parameter: Parameter
    layers: list[Layer] = field(default_factory=list)

    def add(self, layer: Layer) -> str:
        self.layers.append(layer)
        return layer.name

    def convolution(
        self, name: str, x: str, inputs: int, outputs: int, kernel: int = 1, stride: int = 1
    ) -> str:
        weights = self.parameter(f"{name}.weight", (outputs, inputs, kernel, kernel))
        pads = (kernel // 2,) * 4
        return self.add(
            Convolution(
                name=name,
                inputs=(x,),
                weights=np.ascontiguousarray(weights.transpose(0, 2, 3, 1)),
                stride=(stride, stride),
                pads=pads,
            )
        )

    def norm(self, name: str, x: str, channels: int) -> str:
        gamma, beta, mean, variance = (
            self.parameter(f"{name}.{part}", (channels,))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return self.add(
            BatchNorm(name=name, inputs=(x,), gamma=gamma, beta=beta, mean=mean, variance=variance)
        )

    def relu(self, name: str, x: str) -> str:
        return self.add(Activation(name=name, inputs=(x,), kind="relu"))

    def block(
        self, name: str, x: str, inputs: int, stage: Stage, stride: int, stride_on: Literal["3x3", "1x1"]
    ) -> str:
        """Add one block: its convolutions, its shortcut, their sum."""
        kernels = (3, 3) if stage.kind == "basic" else (1, 3, 1)
        strides = [1] * len(kernels)
        strides[1 if stage.kind == "bottleneck" and stride_on == "3x3" else 0] = stride
        y, channels = x, inputs
        for number, (kernel, step) in enumerate(zip(kernels, strides, strict=True), 1):
            last = number == len(kernels)
            made = stage.channels if last else stage.inner
            y = self.convolution(f"{name}.conv{number}", y, channels, made, kernel, step)
            y = self.norm(f"{name}.bn{number}", y, made)
            y, channels = y if last else self.relu(f"{name}.relu{number}", y), made
        if stride != 1 or inputs != stage.channels:
            x = self.convolution(f"{name}.downsample.0", x, inputs, stage.channels, stride=stride)
            x = self.norm(f"{name}.downsample.1", x, stage.channels)
        y = self.add(Elementwise(name=f"{name}.add", inputs=(y, x), kind="add"))
        return self.relu(f"{name}.relu", y)
