"""Deploy vision DNNs to FPGAs as web services with ultra-low latency at batch 1.

The verbs, each loaded when it is first used: `load`, `quantize`, `export`, `compile`, `open`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_VERBS = {
    "load": ("gatecast.interchange", "load"),
    "quantize": ("gatecast.quantization", "quantize"),
    "export": ("gatecast.interchange", "export"),
    "compile": ("gatecast.compiler", "compile"),
    "open": ("gatecast.runtime", "open_session"),
}


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module 'gatecast' has no attribute {name!r}")
    module, attribute = _VERBS[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_VERBS])
