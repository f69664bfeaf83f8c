"""Sums of the lanes, in the order of the epilogue, as float32."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from .float_accumulator import sum_value, to_float32
from .pipeline import QUEUE, delayed, named, one_of, registered

RESULT_LATENCY = 2
"""Cycles from an address of the result memory to its word."""

_UNDER_WAY = RESULT_LATENCY + 2
"""Cycles from the ask for a row until it stands at the queue's input."""


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
        rows = self.lanes // self.values
        stored, row = Signal(range(self.ring + 1)), Signal(range(max(2, rows)))
        depth = QUEUE if 2 * rows <= QUEUE else 2 * rows
        m.submodules.queue = queue = fifo.SyncFIFO(width=32 * self.values, depth=depth)
        begins = Signal()
        goes = self._room(m, queue, rows, begins)
        # a word is read in all cycles in which a row of it is asked for: once begun, nothing stops it
        asks = named(m, (row != 0) | (goes & (stored != 0)), "asks")
        ends = named(m, asks & (row == rows - 1), "word_ends")
        last = self.address % self.passes == self.passes - 1 if self.passes > 1 else 1
        under_way = [asks]
        for _ in range(_UNDER_WAY):
            under_way.append(delayed(m, under_way[-1], 1))
        m.d.comb += [
            self.freed.eq(ends & last),
            self.idle.eq((stored == 0) & ~Cat(under_way).any() & ~queue.r_rdy),
            begins.eq(asks & (row == 0)),
        ]
        m.d.sync += stored.eq(stored + self.finished - self.freed)
        with m.If(asks):
            m.d.sync += row.eq(Mux(ends, 0, row + 1))
        with m.If(ends):
            m.d.sync += self.address.eq(self.address + 1)
        chosen = delayed(m, Cat(row == n for n in range(rows)), RESULT_LATENCY, reset_less=True)
        (current,) = registered(m, True, one_of(chosen, self.word.as_value(), 34 * self.values))
        sums = [to_float32(m, current[34 * i : 34 * i + 34]) for i in range(self.values)]
        m.d.comb += [
            queue.w_en.eq(under_way[-1]),
            queue.w_data.eq(Cat(registered(m, True, *sums))),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
        ]
        return m

    def _room(self, m, queue, rows, begins):
        """Whether the queue has room for a word more than those begun; a register."""
        used, goes = Signal(range(queue.depth + 1)), Signal(init=1)
        taken = queue.r_en & queue.r_rdy
        following = named(m, (used + Mux(begins, rows, 0) - taken)[: len(used)], "used")
        m.d.sync += [used.eq(following), goes.eq(following <= queue.depth - rows)]
        return goes
