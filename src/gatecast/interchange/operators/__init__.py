"""One function for each operator of ONNX, by family; importing this package fills `OPERATORS`."""

from . import activations, arithmetic, convolutions, moves, pools, repeats, resizes

__all__ = ["activations", "arithmetic", "convolutions", "moves", "pools", "repeats", "resizes"]
