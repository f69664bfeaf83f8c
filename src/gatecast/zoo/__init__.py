"""Known networks as Graphs, with their weights' sources, preprocessings, labels and sample pictures."""

from gatecast.files import cache_folder

from .download import Limits, Progress, UnreachableError, download, file_sha256
from .labels import FASHION_LABELS, imagenet_labels
from .networks import NETWORKS, Network, find_weights, load, network
from .originals import (
    FEATURES,
    ORIGINALS,
    Original,
    OriginalGraphs,
    original,
    original_graphs,
    original_names,
)
from .preprocessings import PREPROCESSINGS, azureml_preprocessing, preprocessing
from .residual import ResidualNetwork, Stage, build_residual
from .samples import Sample, samples, write_samples
from .sources import Source
from .stem import with_preprocessing
from .tensor_file import read_tensors
from .weights import Weights, find_file, local_file

__all__ = [
    "FASHION_LABELS",
    "FEATURES",
    "NETWORKS",
    "ORIGINALS",
    "PREPROCESSINGS",
    "Limits",
    "Network",
    "Original",
    "OriginalGraphs",
    "Progress",
    "ResidualNetwork",
    "Sample",
    "Source",
    "Stage",
    "UnreachableError",
    "Weights",
    "azureml_preprocessing",
    "build_residual",
    "cache_folder",
    "download",
    "file_sha256",
    "find_file",
    "find_weights",
    "imagenet_labels",
    "load",
    "local_file",
    "network",
    "original",
    "original_graphs",
    "original_names",
    "preprocessing",
    "read_tensors",
    "samples",
    "with_preprocessing",
    "write_samples",
]
