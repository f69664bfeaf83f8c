"""The compiled-model file `.gcast`: stages, signature, interface, provenance. See docs/spec/artifact.md."""

from .artifact import Artifact
from .stages import HostStage, ImageStage, LayerReport, ProgramStage, Stage

__all__ = ["Artifact", "HostStage", "ImageStage", "LayerReport", "ProgramStage", "Stage"]
