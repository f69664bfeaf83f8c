"""The NPU in Amaranth. Each unit says what it must compute by calling `numerics`. See docs/spec/npu.md."""

from importlib import import_module
from typing import Any

from .registers import (
    ERRORS,
    REGISTERS,
    UNIT_STATES,
    Register,
    register_map_json,
    register_map_svd,
    register_words,
)

__all__ = [
    "ERRORS",
    "REGISTERS",
    "UNIT_STATES",
    "Register",
    "check_limits",
    "register_map_json",
    "register_map_svd",
    "register_words",
    "write_verilog",
]

_LATER = {"write_verilog": ".verilog", "check_limits": ".limits"}
"""What needs Amaranth, or is rarely asked for: imported when it is."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name], __name__), name)
