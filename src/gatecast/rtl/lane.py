"""A pair of lanes: two dot products each cycle, each added to a sum of its lane."""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from ..numerics import Block, accumulate
from .block_dot import DOT_LATENCY, MANTISSAS, BlockDot
from .float_accumulator import FloatAccumulator, accumulator_members, read_latency
from .pair_dot import PairDot

PAIR = 2
"""Lanes that are made together."""

_SHARED = {"a": MANTISSAS, "a_exponent": 8, "take": 1}
_OWN = {"w": MANTISSAS, "w_exponent": 8}
_OWN_OF_SUMS = ("preset_sum", "sum")


class LanePair(wiring.Component):
    """Dot products into a `FloatAccumulator` for each of two lanes; slots and control come from outside.

    Members
    -------
    a, a_exponent, take
        Those of `BlockDot`, for both lanes.
    w0, w1, w_exponent0, w_exponent1
        Those of `BlockDot` for each lane. `PairDot` wants `a`, `w0` and `w1` with sign and magnitude.
    preset_sum0, preset_sum1, sum0, sum1
        Those of `FloatAccumulator` for each lane.
    the rest
        Those of `FloatAccumulator`, for both: `read_slot` comes `read_latency` cycles after the operands.
    """

    def __init__(self, design: "LaneDesign"):
        self.design = design
        self.read_latency = design.read_latency
        super().__init__(design.signature)

    def model(self, total: np.float32, activation: Block, weight: Block) -> np.float32:
        """A lane's sum after one step, for left-aligned mantissas: those of bfp8."""
        return accumulate(total, activation, weight)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        design = self.design
        dots = self._pair_dot(m) if design.cells else [self._block_dot(m, lane) for lane in range(PAIR)]
        for lane, (dot, exponent) in enumerate(dots):
            accumulator = FloatAccumulator(design.latency, design.slots)
            m.submodules[f"accumulator{lane}"] = accumulator
            m.d.comb += [accumulator.dot.eq(dot), accumulator.exponent.eq(exponent)]
            for name, member in _of_sums(design.slots).items():
                inner = getattr(accumulator, name)
                outer = getattr(self, f"{name}{lane}" if name in _OWN_OF_SUMS else name)
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        return m

    def _pair_dot(self, m):
        m.submodules.dot = dot = PairDot()
        names = [*_SHARED, *(f"{name}{lane}" for name in _OWN for lane in range(PAIR))]
        m.d.comb += [getattr(dot, name).eq(getattr(self, name)) for name in names]
        return (dot.dot0, dot.exponent0), (dot.dot1, dot.exponent1)

    def _block_dot(self, m, lane):
        m.submodules[f"dot{lane}"] = dot = BlockDot()
        m.d.comb += [getattr(dot, name).eq(getattr(self, name)) for name in _SHARED]
        m.d.comb += [getattr(dot, name).eq(getattr(self, f"{name}{lane}")) for name in _OWN]
        return dot.dot, dot.exponent


def _of_sums(slots):
    passed = accumulator_members(slots)
    return {name: member for name, member in passed.items() if name not in ("dot", "exponent")}


@dataclass(frozen=True)
class LaneDesign:
    """How the lanes are made.

    Parameters
    ----------
    latency, slots
        See `FloatAccumulator`.
    cells : bool
        Whether a pair shares multipliers of an ECP5 (`PairDot`); else each lane has plain operators
        (`BlockDot`).
    module : str
        Name of a Verilog module that stands for each pair, so that tools meet one of them and not a copy for
        each; empty: none.
    """

    latency: int = 7
    slots: int = 16
    cells: bool = False
    module: str = ""

    @property
    def read_latency(self) -> int:
        """Cycles from a lane's operands to the read of their slot."""
        return DOT_LATENCY + read_latency(self.latency)

    @property
    def signature(self) -> wiring.Signature:
        """Ports of a pair of lanes."""
        members = {name: In(width) for name, width in _SHARED.items()}
        own = {name: In(width) for name, width in _OWN.items()}
        for name, member in _of_sums(self.slots).items():
            (own if name in _OWN_OF_SUMS else members)[name] = member
        for lane in range(PAIR):
            members |= {f"{name}{lane}": member for name, member in own.items()}
        return wiring.Signature(members)

    def place(self, m: Module, name: str):
        """Put a pair into a module, itself or an instance of what stands for it; returns its ports."""
        if not self.module:
            m.submodules[name] = pair = LanePair(self)
            return pair
        ports = self.signature.create(path=(name,))
        connections = {
            f"{'i' if member.flow == In else 'o'}_{port}": getattr(ports, port)
            for port, member in self.signature.members.items()
        }
        m.submodules[name] = Instance(self.module, i_clk=ClockSignal(), i_rst=ResetSignal(), **connections)
        return ports
