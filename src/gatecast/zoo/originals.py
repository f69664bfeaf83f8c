"""The networks of azureml-accel-models: their facts, and those that can be built from networks known here.

The names of their tensors and variables are TF-slim's. A network built here is version 1.5 of ResNet-50, in
which the 3x3 convolution of a block's first unit strides; theirs strode in the last unit.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from gatecast.errors import DownloadError, NotFoundError
from gatecast.graph import Graph, Input

from .networks import find_weights, load, network
from .preprocessings import AZUREML
from .stem import with_preprocessing

FEATURES = "brainwave_target_node_1_Version_0.1"
"""Node that the accelerated part ends with."""

_CUT = "avgpool"
_SEED = 50


@dataclass(frozen=True, kw_only=True)
class Original:
    """One class of azureml.accel.models.

    Parameters
    ----------
    name : str
        Of the class.
    folder, version : str
        Where it kept its weights, below the folder that its user names.
    reference : str
        Its `model_ref`.
    scope : str
        First part of the names of its nodes.
    side, channels : int
        Of the picture, in pixels; of the features.
    network : str, optional
        The network known here that it is built from; None if there is none.
    """

    name: str
    folder: str
    version: str
    reference: str
    scope: str
    side: int = 224
    channels: int
    network: str | None = None

    @property
    def input_dims(self) -> list[int | None]:
        """Shape of the tensor that it reads."""
        return [None, self.side, self.side, 3]

    @property
    def output_dims(self) -> list[int | None]:
        """Shape of the features."""
        return [None, 1, 1, self.channels]


def _table() -> dict[str, Original]:
    """Each float network, and the quantised one that differs from it in the weights' folder only."""
    float_ones = (
        Original(name="Resnet50", folder="rn50", version="1.1.3", reference="resnet50",
                 scope="resnet_v1_50", channels=2048, network="resnet50"),
        Original(name="Resnet152", folder="rn152", version="1.1.2", reference="resnet152",
                 scope="resnet_v1_152", channels=2048),
        Original(name="Densenet121", folder="dn121", version="1.1.4", reference="densenet121",
                 scope="densenet121", channels=1024),
        Original(name="Vgg16", folder="vgg16", version="1.1.3", reference="vgg16",
                 scope="vgg_16", channels=4096),
        Original(name="SsdVgg", folder="vggssd", version="1.1.3", reference="ssd_vgg",
                 scope="ssd_300_vgg", side=300, channels=0),
    )  # fmt: skip
    versions = {"Resnet50": "1.1.2", "Resnet152": "1.1.3", "Densenet121": "1.1.4", "Vgg16": "1.1.2"}
    quantized = (
        replace(
            one,
            name=f"Quantized{one.name}",
            folder=f"msfp{one.folder}",
            version=versions.get(one.name, one.version),
        )
        for one in float_ones
    )
    return {one.name: one for one in (*float_ones, *quantized)}


ORIGINALS = _table()


@dataclass(frozen=True)
class OriginalGraphs:
    """What one class is built from.

    Parameters
    ----------
    features : Graph
        From the tensor that `preprocess_array` makes (RGB, means subtracted) to the mean of the last map.
    classifier : Graph
        From there to probabilities.
    notice : str
        For the user: which weights these are, from where, under which licence.
    """

    features: Graph
    classifier: Graph
    notice: str


def original(name: str) -> Original:
    """Return the facts of a class; NotFoundError lists those that can be built, if this one cannot."""
    found = ORIGINALS.get(name)
    if found is None or found.network is None:
        built = ", ".join(key for key, value in ORIGINALS.items() if value.network)
        raise NotFoundError(
            f"Model must be one whose network is known here ({built}), not {name}",
            hint="`gatecast zoo list` shows the networks; others can be registered as ONNX or a SavedModel.",
        )
    return found


def original_graphs(name: str) -> OriginalGraphs:
    """Build the network of a class, from trained weights if they can be had, else from seeded ones.

    Raises
    ------
    NotFoundError
        No network known here is that of the class.
    FileError
        Weights that were found are damaged.
    """
    known = original(name)
    graph, notice = _weighted(known.network or "")
    graph = with_preprocessing(graph, replace(AZUREML, height=known.side, width=known.side))
    return OriginalGraphs(_until(graph, _CUT), _after(graph, _CUT), notice)


def _weighted(name: str) -> tuple[Graph, str]:
    try:
        weights = find_weights(name)
    except DownloadError as error:
        notice = (
            f"No weights of {name} were found: random ones from a seed stand in, and answers mean nothing. "
            f"{error.hint}"
        )
        known = network(name)
        return known.build(known.random_arrays(_SEED)), notice
    return load(name, weights=weights), weights.notice


def _until(graph: Graph, value: str) -> Graph:
    """The part of a chain of layers that ends with `value`."""
    last = [layer.name for layer in graph.layers].index(value)
    return Graph(graph.name, graph.inputs, graph.layers[: last + 1], (value,))


def _after(graph: Graph, value: str) -> Graph:
    """The part that begins with it."""
    last = [layer.name for layer in graph.layers].index(value)
    inputs = (Input(value, graph.shapes[value]),)
    return Graph(graph.name, inputs, graph.layers[last + 1 :], graph.outputs)


_UNIT = re.compile(r"layer(\d+)\.(\d+)\.(.+)")
_IN_UNIT = {"downsample.0": "shortcut", "downsample.1": "shortcut/BatchNorm", "add": "add", "relu": "Relu"}
_OUTSIDE = {
    "offset": "offset",
    "conv1": "conv1",
    "bn1": "conv1/BatchNorm",
    "relu": "conv1/Relu",
    "maxpool": "pool1/MaxPool",
    "fc": "logits",
    "probabilities": "predictions/Softmax",
}


def original_names(scope: str) -> Callable[[str], str]:
    """Return the function from names of a residual network's layers to TF-slim's of its nodes."""

    def name_of(layer: str) -> str:
        if layer == _CUT:
            return FEATURES
        if (unit := _UNIT.fullmatch(layer)) is None:
            return f"{scope}/{_OUTSIDE[layer]}"
        block, number, part = unit.groups()
        return f"{scope}/block{block}/unit_{int(number) + 1}/bottleneck_v1/{_in_unit(part)}"

    return name_of


def _in_unit(part: str) -> str:
    """``bn2`` to ``conv2/BatchNorm``, and so on."""
    if part in _IN_UNIT:
        return _IN_UNIT[part]
    number = part[-1]
    return {"conv": f"conv{number}", "bn": f"conv{number}/BatchNorm", "relu": f"conv{number}/Relu"}[part[:-1]]
