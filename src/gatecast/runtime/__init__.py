"""Runs the stages of one Artifact in order: pictures or tensors in, tensors out."""

from .images import decode_image
from .profiling import LayerTime, Profile, Roof, profile
from .session import RunTime, Session, open_session

__all__ = ["LayerTime", "Profile", "Roof", "RunTime", "Session", "decode_image", "open_session", "profile"]
