from gatecast.compiler import compile
from gatecast.interchange import export, load
from gatecast.quantization import quantize
from gatecast.runtime import open_session

__all__ = ["__version__", "compile", "export", "load", "open", "quantize"]

__version__: str
open = open_session
