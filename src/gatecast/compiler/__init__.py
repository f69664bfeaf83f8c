"""Graph to Artifact: decides where and when each layer runs, and never what it computes."""

from .compile import compile, network_digest

__all__ = ["compile", "network_digest"]
