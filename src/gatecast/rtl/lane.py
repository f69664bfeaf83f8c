"""One lane: a dot product each cycle, added to one of its sums."""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from ..numerics import BLOCK_SIZE, Block, accumulate
from .block_dot import MANTISSAS, BlockDot, dot_latency
from .float_accumulator import FloatAccumulator, accumulator_members, read_latency

OPERANDS = {"a": MANTISSAS, "w": MANTISSAS, "a_exponent": 8, "w_exponent": 8, "take": 1}


class Lane(wiring.Component):
    """`BlockDot` into `FloatAccumulator`; slots and control come from outside, the same for all lanes.

    Members
    -------
    a, w, a_exponent, w_exponent, take
        Those of `BlockDot`.
    the rest
        Those of `FloatAccumulator`: `read_slot` comes `read_latency` cycles after the operands.
    """

    def __init__(self, design: "LaneDesign"):
        self.design = design
        self.read_latency = design.read_latency
        super().__init__(design.signature)

    def model(self, total: np.float32, activation: Block, weight: Block) -> np.float32:
        """The sum after one step, for left-aligned mantissas: those of bfp8."""
        return accumulate(total, activation, weight)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        design = self.design
        m.submodules.dot = dot = BlockDot(design.multipliers, design.cells)
        m.submodules.accumulator = accumulator = FloatAccumulator(design.latency, design.slots)
        m.d.comb += [getattr(dot, name).eq(getattr(self, name)) for name in OPERANDS]
        m.d.comb += [accumulator.dot.eq(dot.dot), accumulator.exponent.eq(dot.exponent)]
        for name, member in self.signature.members.items():
            if name not in OPERANDS:
                inner, outer = getattr(accumulator, name), getattr(self, name)
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        return m


@dataclass(frozen=True)
class LaneDesign:
    """How the lanes are made.

    Parameters
    ----------
    latency, slots
        See `FloatAccumulator`.
    multipliers, cells
        See `BlockDot`.
    module : str
        Name of a Verilog module that stands for each lane, so that tools meet one of them and not `lanes`
        copies; empty: none.
    """

    latency: int = 7
    slots: int = 16
    multipliers: int = BLOCK_SIZE
    cells: bool = False
    module: str = ""

    @property
    def read_latency(self) -> int:
        """Cycles from a lane's operands to the read of their slot."""
        return dot_latency(self.multipliers) + read_latency(self.latency)

    @property
    def signature(self) -> wiring.Signature:
        """Ports of a lane."""
        passed = accumulator_members(self.slots)
        operands = {name: In(width) for name, width in OPERANDS.items()}
        return wiring.Signature(operands | {n: p for n, p in passed.items() if n not in ("dot", "exponent")})

    def place(self, m: Module, name: str):
        """Put a lane into a module, itself or an instance of what stands for it; returns its ports."""
        if not self.module:
            m.submodules[name] = lane = Lane(self)
            return lane
        ports = self.signature.create(path=(name,))
        connections = {
            f"{'i' if member.flow == In else 'o'}_{port}": getattr(ports, port)
            for port, member in self.signature.members.items()
        }
        m.submodules[name] = Instance(self.module, i_clk=ClockSignal(), i_rst=ResetSignal(), **connections)
        return ports
