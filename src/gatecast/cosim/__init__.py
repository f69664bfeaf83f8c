"""The NPU's Verilog in a simulator, behind the Device contract, as device `rtl`. See docs/guides/rtl.md."""

from .build import Simulators
from .device import RtlDevice, RtlProgram
from .simulator import MemoryTiming, Retired, Simulator

__all__ = ["MemoryTiming", "Retired", "RtlDevice", "RtlProgram", "Simulator", "Simulators"]
