"""Runs the stages of one Artifact in order: pictures or tensors in, tensors out."""

from .images import decode_image
from .session import RunTime, Session, open_session

__all__ = ["RunTime", "Session", "decode_image", "open_session"]
