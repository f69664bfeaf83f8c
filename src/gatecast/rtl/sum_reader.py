"""Sums of the lanes, in the order of the epilogue, as float32."""

import numpy as np
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .float_accumulator import sum_value, to_float32
from .pipeline import Ahead, named, registered

RESULT_LATENCY = 2
"""Cycles from an address of the result memory to its word."""


class SumReader(wiring.Component):
    """Read the result memory pixel after pixel, and hand out the sums of a block row by row.

    Parameters
    ----------
    lanes, passes, ring : int
        Lanes; words of a pixel; pixels of the result memory.
    values : int
        Values of a row.

    Members
    -------
    finished : In(1)
        One more pixel stands in the result memory.
    freed : Out(1)
        One has been read.
    address, word
        Port of the result memory: the word comes `RESULT_LATENCY` cycles after its address.
    o : Out(stream)
        Rows of IEEE bits.
    idle : Out(1)
        Nothing is left to hand out.
    """

    def __init__(self, lanes: int, passes: int, ring: int, values: int):
        self.lanes, self.passes, self.ring, self.values = lanes, passes, ring, values
        super().__init__(
            {
                "finished": In(1),
                "freed": Out(1),
                "address": Out(range(passes * ring)),
                "word": In(data.ArrayLayout(34, lanes)),
                "o": Out(stream.Signature(data.ArrayLayout(32, values))),
                "idle": Out(1),
            }
        )

    def model(self, sums: np.ndarray) -> np.ndarray:
        """Rows of IEEE bits uint32 ``[pixels * 32 / values, values]`` of the lanes' sums ``[pixels, 32]``."""
        found = np.array([sum_value(int(code)) for code in sums.flat], np.float32)
        return found.view(np.uint32).reshape(-1, self.values)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        rows, width = self.lanes // self.values, 34 * self.values
        stored, age = Signal(range(self.ring + 1)), Signal(range(RESULT_LATENCY + 1))
        current, left = Signal(34 * self.lanes, reset_less=True), Signal(range(rows + 1))
        under_way = Signal()
        fresh = named(m, (age == RESULT_LATENCY) & (stored != 0), "fresh")
        queue = Ahead(m, "queue", self.o, under_way=2)
        moves = named(m, queue.goes & (left != 0), "moves")
        loads = named(m, fresh & ((left == 0) | (moves & (left == 1))), "loads")
        last = self.address % self.passes == self.passes - 1 if self.passes > 1 else 1
        m.d.comb += [
            self.freed.eq(loads & last),
            self.idle.eq((stored == 0) & (left == 0) & ~under_way & queue.empty),
        ]
        m.d.sync += stored.eq(stored + self.finished - self.freed)
        with m.If(moves):
            m.d.sync += [current.eq(current >> width), left.eq(left - 1)]
        with m.If(loads):
            m.d.sync += [
                current.eq(self.word),
                left.eq(rows),
                self.address.eq(self.address + 1),
                age.eq(0),
            ]
        with m.Elif((age != RESULT_LATENCY) & (stored != 0)):
            m.d.sync += age.eq(age + 1)
        row = [to_float32(m, current[34 * i : 34 * i + 34]) for i in range(self.values)]
        m.d.sync += under_way.eq(moves)
        queue.put(m, under_way, *registered(m, True, Cat(row)))
        return m
