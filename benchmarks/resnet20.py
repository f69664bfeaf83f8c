"""ResNet-20 for CIFAR-10 as a Graph, with the published weights: a real network, short enough to simulate.

Ref: He et al., Deep Residual Learning for Image Recognition, 4.2; weights: github.com/akamaster/
pytorch_resnet_cifar10, whose shortcuts are the paper's option A. The files are those of the folder
GATECAST_TEST_DATA: `weights/resnet20_cifar10-12fca82f.th` and `images/cifar10_test1000.npz`.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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
    OutputPort,
)
from gatecast.zoo import read_tensors

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
STAGES = ((16, 1), (32, 2), (64, 2))
"""Channels and first stride of each stage of three blocks."""


def data_folder() -> Path:
    """Folder of the weights and pictures; ends the program if it is not named."""
    root = os.environ.get("GATECAST_TEST_DATA")
    if root is None:
        sys.exit("error: GATECAST_TEST_DATA must name the folder with ResNet-20's weights and CIFAR-10")
    return Path(root)


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """First test pictures, normalised float32 ``[count, 32, 32, 3]``, and their labels."""
    data = np.load(data_folder() / "images" / "cifar10_test1000.npz")
    pixels = data["images"][:count].astype(np.float32) / np.float32(255)
    return (pixels - MEAN) / STD, data["labels"][:count]


def resnet20() -> Graph:
    """The float network; its output `linear` is the ten scores."""
    found = read_tensors(data_folder() / "weights" / "resnet20_cifar10-12fca82f.th")
    return build({name.removeprefix("module."): array for name, array in found.items()})


def build(arrays: Mapping[str, np.ndarray]) -> Graph:
    """The network with these arrays, under the names of the published file."""
    make = _Builder(arrays)
    x = make.norm_relu("bn1", make.convolution("conv1", "images", 1))
    channels = STAGES[0][0]
    for number, (made, first) in enumerate(STAGES, 1):
        for block in range(3):
            x = make.block(f"layer{number}.{block}", x, (channels, made), first if block == 0 else 1)
            channels = made
    x = make.add(GlobalAveragePool(name="avgpool", inputs=(x,)))
    weights = arrays["linear.weight"][:, None, None, :]
    make.add(MatMul(name="linear", inputs=(x,), weights=weights, bias=arrays["linear.bias"]))
    return Graph(
        name="resnet20",
        inputs=(Input("images", (32, 32, 3)),),
        layers=tuple(make.layers),
        outputs=("linear",),
        interface=Interface(
            inputs=(InputPort(name="images", value="images", layout="NHWC"),),
            outputs=(OutputPort(name="linear", value="linear"),),
        ),
    )


@dataclass
class _Builder:
    arrays: Mapping[str, np.ndarray]
    layers: list[Layer] = field(default_factory=list)

    def add(self, layer: Layer) -> str:
        self.layers.append(layer)
        return layer.name

    def convolution(self, name: str, x: str, stride: int) -> str:
        weights = np.ascontiguousarray(self.arrays[f"{name}.weight"].transpose(0, 2, 3, 1))
        sizes = {"stride": (stride, stride), "pads": (1, 1, 1, 1)}
        return self.add(Convolution(name=name, inputs=(x,), weights=weights, **sizes))

    def norm(self, name: str, x: str) -> str:
        parts = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
        given = {field: self.arrays[f"{name}.{part}"] for field, part in parts.items()}
        return self.add(BatchNorm(name=name, inputs=(x,), **given))

    def norm_relu(self, name: str, x: str) -> str:
        norm = self.norm(name, x)
        return self.add(Activation(name=f"{norm}.relu", inputs=(norm,), kind="relu"))

    def block(self, name: str, x: str, channels: tuple[int, int], stride: int) -> str:
        shortcut = x if channels[0] == channels[1] else self.shortcut(f"{name}.shortcut", x, channels, stride)
        y = self.norm_relu(f"{name}.bn1", self.convolution(f"{name}.conv1", x, stride))
        y = self.norm(f"{name}.bn2", self.convolution(f"{name}.conv2", y, 1))
        y = self.add(Elementwise(name=f"{name}.add", inputs=(y, shortcut), kind="add"))
        return self.add(Activation(name=f"{name}.relu", inputs=(y,), kind="relu"))

    def shortcut(self, name: str, x: str, channels: tuple[int, int], stride: int) -> str:
        """Option A, every second pixel with zero channels around: a 1x1 convolution with weights 0 and 1.

        It is exact: each sum is one value and zeros, and its result keeps the exponents of its blocks.
        """
        inputs, outputs = channels
        weights = np.zeros((outputs, 1, 1, inputs), np.float32)
        weights[(outputs - inputs) // 2 + np.arange(inputs), 0, 0, np.arange(inputs)] = 1
        return self.add(Convolution(name=name, inputs=(x,), weights=weights, stride=(stride, stride)))
