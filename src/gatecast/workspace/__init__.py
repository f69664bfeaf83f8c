"""The control plane in a folder: models, conversions, images, compute and services, by name and version."""

from .base_image import Base, build_base, find_base
from .computes import Compute
from .images import Image, ImageState
from .models import Model, ModelFile
from .operations import Operation, State
from .planning import ReplicaState, ServiceState
from .replicas import Replica
from .services import Service
from .workspace import Workspace

__all__ = [
    "Base",
    "Compute",
    "Image",
    "ImageState",
    "Model",
    "ModelFile",
    "Operation",
    "Replica",
    "ReplicaState",
    "Service",
    "ServiceState",
    "State",
    "Workspace",
    "build_base",
    "find_base",
]
