"""The control plane in a folder: models, conversions, images, compute and services, by name and version."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .computes import Compute
from .images import Image, ImageState
from .models import Model, ModelFile
from .operations import Operation, State
from .planning import ReplicaState, ServiceState
from .replicas import Replica
from .services import Service
from .workspace import Workspace

if TYPE_CHECKING:
    from .base_image import Base, build_base, find_base
    from .pruning import Pruned

__all__ = [
    "Base",
    "Compute",
    "Image",
    "ImageState",
    "Model",
    "ModelFile",
    "Operation",
    "Pruned",
    "Replica",
    "ReplicaState",
    "Service",
    "ServiceState",
    "State",
    "Workspace",
    "build_base",
    "find_base",
]

_LATER = {
    "Base": ".base_image",
    "Pruned": ".pruning",
    "build_base": ".base_image",
    "find_base": ".base_image",
}
"""What reads tars and installed packages: imported when it is asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name], __name__), name)
