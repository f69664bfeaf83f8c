"""Verilog of the NPU."""

import re

from amaranth.back import verilog
from amaranth.lib import wiring

from ..isa import Architecture
from ..isa import architecture as named_architecture
from .lane import LaneDesign, LanePair
from .limits import check_limits
from .top import Npu

_ZEROS = re.compile(r"^  initial begin\n(?: +\S+ ?\[\d+\] = \d+'h0+;\n)+  end\n", re.MULTILINE)
"""Memories set to 0, word by word: nothing reads what was not written, and tools take long over it."""


def write_verilog(architecture: Architecture | str, cells: bool = False) -> str:
    """Verilog text, one file; the top module is `npu`.

    Parameters
    ----------
    architecture : Architecture or str
        Sizes, or the name of an Architecture.
    cells : bool
        Whether two lanes share the multipliers of an ECP5 (MULT18X18D, CCU2C), or each has its own, made of
        plain operators.

    Raises
    ------
    NotFoundError
        No Architecture has this name.
    DeviceError
        The sizes are beyond what this hardware can be built for.
    """
    sizes = named_architecture(architecture) if isinstance(architecture, str) else architecture
    check_limits(sizes)
    design = LaneDesign(sizes.adder_latency, sizes.max_interleave, cells, "npu_lane_pair")
    return component_verilog(Npu(sizes, design), "npu") + component_verilog(LanePair(design), design.module)


def component_verilog(component: wiring.Component, name: str) -> str:
    """Verilog of one component, as the module `name`."""
    text: str = verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
    return _ZEROS.sub("", text)
