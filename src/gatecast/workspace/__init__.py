"""The control plane in a folder: models, conversions, images, compute and services, by name and version."""

from .images import Image, ImageState
from .models import Model, ModelFile
from .operations import Operation, State
from .workspace import Workspace

__all__ = ["Image", "ImageState", "Model", "ModelFile", "Operation", "State", "Workspace"]
