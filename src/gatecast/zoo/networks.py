"""The known networks, as a table of records, and how one becomes a Graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import FileError, NotFoundError
from gatecast.graph import Graph, Preprocessing, Softmax

from .download import Limits, Progress
from .labels import FASHION_LABELS, imagenet_labels
from .preprocessings import preprocessing
from .residual import FASHION, RESNET50, RESNET50_V1, ResidualNetwork, build_residual, classifier_interface
from .sources import RESNET50_SOURCES, RESNET50_V1_SOURCES, TORCHVISION_LICENCE, Source
from .tensor_file import read_tensors
from .weights import Weights, find_file

_DATA = Path(__file__).parent / "data"
_OTHER_WEIGHTS = "Give the weights of this network; `gatecast zoo show {}` lists files that suit it."
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A known network.

    Parameters
    ----------
    name, description, licence : str
        The licence is that of the weights.
    architecture : ResidualNetwork
    labels : function
        Returns the class names, in the order of the scores.
    preprocessings : tuple of str
        Names of those whose tensors the network can read. Which is right depends on the weights; the first
        is taken where they do not say.
    sources : tuple of Source
        Where weights can be had, best first. Empty if the package carries them.
    """

    name: str
    description: str
    licence: str
    architecture: ResidualNetwork
    labels: Callable[[], tuple[str, ...]]
    preprocessings: tuple[str, ...]
    sources: tuple[Source, ...] = ()

    def build(self, arrays: Mapping[str, Float32], preprocess: str | None = None) -> Graph:
        """Return the Graph with these arrays, which bear torchvision's names.

        Raises
        ------
        FileError
            An array is missing, too many, of another shape, or not finite; all such are listed.
        NotFoundError
            No preprocessing is called `preprocess`.
        """
        rule = preprocessing(preprocess or self.preprocessings[0])
        given = _Given(arrays)
        graph = build_residual(self.name, self.architecture, given.take, rule, self.labels())
        given.check(self.name)
        return graph

    def random_arrays(self, seed: int = 0) -> dict[str, Float32]:
        """Return arrays of the right names and shapes from a seed: for tests and measurements of speed."""
        made = _Seeded(np.random.default_rng(seed))
        rule = preprocessing(self.preprocessings[0])
        build_residual(self.name, self.architecture, made.take, rule, self.labels())
        return made.arrays


class _Given:
    """Hands out arrays and notes what is wrong with them, so that one error can list it all."""

    def __init__(self, arrays: Mapping[str, Float32]) -> None:
        self._arrays = arrays
        self._taken: set[str] = set()
        self._faults: list[str] = []

    def take(self, name: str, shape: tuple[int, ...]) -> Float32:
        self._taken.add(name)
        array = self._arrays.get(name)
        if array is None:
            self._faults.append(f"{name} is missing")
        elif array.shape != shape:
            self._faults.append(f"{name} has shape {array.shape}, not {shape}")
        elif not np.isfinite(array).all():
            self._faults.append(f"{name} has values that are not finite")
        else:
            return np.ascontiguousarray(array, np.float32)
        return np.ones(shape, np.float32)

    def check(self, network: str) -> None:
        faults = self._faults + [f"{name} is too many" for name in self._arrays if name not in self._taken]
        if faults:
            more = f", and {len(faults) - 5} more" if len(faults) > 5 else ""
            raise FileError(
                f"Weights must be those of {network}, but {', '.join(faults[:5])}{more}",
                hint=_OTHER_WEIGHTS.format(network),
            )


class _Seeded:
    """Makes up arrays that keep the size of activations about the same from layer to layer."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self.arrays: dict[str, Float32] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Float32:
        if len(shape) > 1:
            array = self._random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith((".running_var", ".weight")):
            array = self._random.uniform(0.5, 1.5, shape)
        else:
            array = self._random.normal(0, 0.1, shape)
        self.arrays[name] = array.astype(np.float32)
        return self.arrays[name]


NETWORKS = {
    network.name: network
    for network in (
        Network(
            name="fashion",
            description="residual CNN of 92 842 numbers for Fashion-MNIST, carried by the package",
            licence="Apache-2.0, like the package; trained on Fashion-MNIST (MIT, (c) 2017 Zalando SE)",
            architecture=FASHION,
            labels=lambda: FASHION_LABELS,
            preprocessings=("fashion",),
        ),
        Network(
            name="resnet50",
            description="ResNet-50 v1.5 as torchvision has it: the 3x3 convolution of a block strides",
            licence=TORCHVISION_LICENCE,
            architecture=RESNET50,
            labels=imagenet_labels,
            preprocessings=("imagenet-torchvision", "imagenet-torchvision-v2", "imagenet-azureml"),
            sources=RESNET50_SOURCES,
        ),
        Network(
            name="resnet50-v1",
            description="ResNet-50 v1 as first published: the first 1x1 convolution of a block strides",
            licence="Apache-2.0, ONNX Model Zoo; trained on ImageNet",
            architecture=RESNET50_V1,
            labels=imagenet_labels,
            preprocessings=("imagenet-torchvision", "imagenet-azureml"),
            sources=RESNET50_V1_SOURCES,
        ),
    )
}


def network(name: str) -> Network:
    """Return the record of the network called `name`; NotFoundError lists those that exist."""
    if name not in NETWORKS:
        raise NotFoundError(f"Network must be one of {', '.join(NETWORKS)}, not {name!r}")
    return NETWORKS[name]


def find_weights(name: str, *, progress: Progress | None = None, limits: Limits | None = None) -> Weights:
    """Return the weights of a network: carried, cached, in a named folder, or downloaded.

    Print `Weights.notice` where a user should know; `Weights.test_only` marks a licence for tests only.

    Raises
    ------
    NotFoundError
        There is no such network.
    FileError, DownloadError
        As `find_file` of this package does.
    """
    known = network(name)
    if not known.sources:
        path = _DATA / f"{name}.npz"
        return Weights(path, "package", Source(file=path.name, licence=known.licence, publisher="Gatecast"))
    return find_file(f"weights of {name}", known.sources, progress=progress, limits=limits)


def load(
    name: str,
    *,
    weights: Weights | Path | None = None,
    preprocess: str | None = None,
    progress: Progress | None = None,
) -> Graph:
    """Return a known network as a float Graph with its image stage and labels.

    Parameters
    ----------
    weights : Weights or Path, optional
        What `find_weights` returned, or a file of arrays under torchvision's names (.npz, safetensors, .pth)
        or ONNX. Without it, `find_weights` looks.
    preprocess : str, optional
        Name of a preprocessing; without it, the one that the weights were trained with.

    Raises
    ------
    NotFoundError
        There is no network, or no preprocessing, of this name.
    FileError
        The weights are damaged or another network's.
    DownloadError
        No weights are at hand and none could be downloaded.
    """
    known = network(name)
    if preprocess is not None:
        preprocessing(preprocess)
    if weights is None:
        weights = find_weights(name, progress=progress)
    elif isinstance(weights, Path):
        weights = Weights(weights, "file")
    trained_with = weights.source.preprocessing if weights.source and known.sources else None
    rule = preprocess or trained_with or known.preprocessings[0]
    if weights.path.suffix == ".onnx":
        return _from_onnx(known, weights.path, preprocessing(rule))
    return known.build(read_tensors(weights.path), rule)


def _from_onnx(known: Network, path: Path, rule: Preprocessing) -> Graph:
    """Read a classifier from ONNX and give it the ports that `build` gives: pictures to probabilities."""
    # Loaded by name: only this path needs the onnx library.
    read: Any = import_module("gatecast.interchange").load
    graph: Graph = read(path)
    labels, inputs, scores = known.labels(), graph.inputs, graph.outputs[0]
    if len(inputs) != 1 or inputs[0].shape != rule.shape or graph.shapes[scores] != (len(labels),):
        raise FileError(
            f"{path} must read {rule.shape} and give {len(labels)} scores to be {known.name}, "
            f"not {', '.join(str(value.shape) for value in inputs)} and {graph.shapes[scores]}",
            hint=_OTHER_WEIGHTS.format(known.name),
        )
    layers = graph.layers
    if not isinstance(graph.by_name.get(scores), Softmax):
        layers = (*layers, Softmax(name="probabilities", inputs=(scores,)))
    result = layers[-1].name if layers is not graph.layers else scores
    return Graph(
        name=known.name,
        inputs=inputs,
        layers=layers,
        outputs=(result,),
        interface=classifier_interface(inputs[0].name, result, rule, labels),
    )
