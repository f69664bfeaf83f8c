"""Networks from and to other tools' files: standard ONNX, and from TensorFlow's."""

from .exporter import to_onnx
from .importer import from_onnx, supported_operators
from .onnx_file import export
from .opening import is_tensorflow, load
from .selection import match_name

__all__ = ["export", "from_onnx", "is_tensorflow", "load", "match_name", "supported_operators", "to_onnx"]
