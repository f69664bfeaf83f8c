"""The matrix-vector unit: `lanes` output channels times one block a cycle, its weights and its results."""

import numpy as np
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..numerics import BFP8, BLOCK_SIZE, accumulate_blocks, decode_blocks
from .block_dot import BLOCK_BITS, MANTISSAS, sign_magnitude
from .lane import PAIR, LaneDesign
from .pipeline import UNORDERED, delayed, delayed_data
from .shared_memory import READ_LATENCY

GROUP = 4
"""Lanes that share one copy of the activations; the next group works a cycle later."""

ACTIVATION_LATENCY = READ_LATENCY
"""Cycles from a step to its activation block."""


class MatrixVector(wiring.Component):
    """Lanes with weight memory in front and result memory behind.

    Parameters
    ----------
    lanes : int
        Output channels at once; 4, 8, 16 or 32.
    panels : int
        Panels of weight memory. Lane i holds channels i, i + lanes, … of each panel.
    ring : int
        Pixels that the result memory holds, a power of 2.
    design : LaneDesign
        How the lanes are made.

    Members
    -------
    step : In
        One step: `valid`, whether there is one; `load`, take the weights at `panel` (panel and pass); `slot`;
        `first` and `last` of a sum; `zero`, the activation counts as 0; `result`, where the sum goes (pixel
        of the ring and pass); `final`, whether `finished` shall tell.
    activation : In
        The block of a step, `ACTIVATION_LATENCY` cycles after it.
    finished : Out
        Sums up to a `final` step have been written.
    written : In
        Half a block of one lane's weights: `enable`, `lane`, `address`; `high`, it is the second one; `half`,
        its mantissas; with the second one the `exponent`.
    preset : In
        Set the sums of four lanes: `enable`, `slot`, `quarter`, `sums`.
    read_result, results
        Address, and two cycles later that word of all lanes.
    """

    def __init__(self, lanes: int, panels: int, ring: int, design: LaneDesign):
        self.lanes, self.design, self.latency = lanes, design, design.latency
        self.passes = BLOCK_SIZE // lanes
        self.depth, self.result_depth = panels * self.passes, ring * self.passes
        self.step_layout = data.StructLayout(
            {
                "valid": 1,
                "load": 1,
                "panel": range(self.depth),
                "slot": range(design.slots),
                "first": 1,
                "last": 1,
                "zero": 1,
                "result": range(self.result_depth),
                "final": 1,
            }
        )
        written = data.StructLayout(
            {
                "enable": 1,
                "lane": range(lanes),
                "address": range(self.depth),
                "high": 1,
                "half": MANTISSAS // 2,
                "exponent": 8,
            }
        )
        preset = data.StructLayout(
            {
                "enable": 1,
                "slot": range(design.slots),
                "quarter": max(1, (lanes // GROUP - 1).bit_length()),
                "sums": data.ArrayLayout(34, GROUP),
            }
        )
        super().__init__(
            {
                "step": In(self.step_layout),
                "activation": In(BLOCK_BITS),
                "finished": Out(1),
                "written": In(written),
                "preset": In(preset),
                "read_result": In(range(self.result_depth)),
                "results": Out(data.ArrayLayout(34, lanes)),
            }
        )

    def model(self, sums: np.ndarray, activations: tuple, panels: tuple, zero: np.ndarray) -> np.ndarray:
        """Sums float32 ``[pixels, 32]`` after steps that begin from `sums`.

        `activations` are left-aligned mantissas int8 ``[pixels, steps, 32]`` and exponent bytes; `panels`
        those of ``[steps, 32 channels, 32]``; `zero` bool ``[pixels, steps]``.
        """
        values, weights = decode_blocks(*activations, BFP8), decode_blocks(*panels, BFP8)
        values, sums = np.where(zero[..., None], np.float32(0), values), sums.copy()
        for step in range(len(weights)):
            accumulate_blocks(sums, values[:, step], weights[step])
        return sums

    @property
    def drain(self) -> int:
        """Cycles from a step until its sum stands in the accumulators of all lanes."""
        return 32 + self.lanes // GROUP

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        written = Signal(self.written.shape())
        m.d.sync += [written.eq(self.written), written.half.eq(self._for_lanes(self.written.half))]
        early, control = self._control(m)
        line = Cat(self._for_lanes(self.activation[:MANTISSAS]), self.activation[MANTISSAS:])
        line = line & (~early.zero).replicate(BLOCK_BITS)
        read_result = self.read_result
        finished = []
        for group in range(self.lanes // GROUP):
            line = delayed(m, line, 1, attrs={"keep": 1}, reset_less=True)
            if group:
                control = data.View(control.shape(), delayed(m, control, 1, attrs={"keep": 1}))
                written = data.View(written.shape(), delayed(m, written, 1, attrs={"keep": 1}))
            finished.append(self._group(m, group, control, line, written, read_result))
        m.d.comb += self.finished.eq(finished[-1])
        return m

    def _for_lanes(self, mantissas):
        """Mantissas as the lanes want them."""
        return sign_magnitude(mantissas) if self.design.cells else mantissas

    def _control(self, m):
        """The step when its activation is there, and what it tells the first four lanes, each at its time."""

        def later(control, cycles):
            return data.View(self.step_layout, delayed(m, control, cycles))

        early = later(self.step, ACTIVATION_LATENCY)
        at_load = later(early, 1)
        at_read = later(at_load, self.design.read_latency)
        at_write = later(at_read, self.latency - 1)
        ends = at_write.valid & at_write.last
        found = {
            "panel": early.panel,
            "load": at_load.load,
            "read_slot": at_read.slot,
            "first": at_read.first,
            "write_slot": at_write.slot,
            "write": at_write.valid,
            "ends": ends,
            "result": at_write.result,
            "final": ends & at_write.final,
        }
        control = Signal(data.StructLayout({name: len(value) for name, value in found.items()}))
        m.d.comb += control.eq(Cat(*found.values()))
        return early, control

    def _group(self, m, group, control, line, written, read_result):
        """Four lanes; returns their `finished`."""
        numbers = range(GROUP * group, GROUP * group + GROUP)
        preset = self.preset
        for first in numbers[::PAIR]:
            pair = self.design.place(m, f"pair{first // PAIR}")
            m.d.comb += [
                pair.a.eq(line[:MANTISSAS]),
                pair.a_exponent.eq(line[MANTISSAS:]),
                pair.take.eq(control.load),
                pair.read_slot.eq(control.read_slot),
                pair.first.eq(control.first),
                pair.write_slot.eq(control.write_slot),
                pair.write.eq(control.write),
                pair.preset.eq(preset.enable & (preset.quarter == group)),
                pair.preset_slot.eq(preset.slot),
            ]
            for lane in range(PAIR):
                number = first + lane
                weights = self._weights(m, number, control, written)
                m.d.comb += [
                    getattr(pair, f"w{lane}").eq(weights[:MANTISSAS]),
                    getattr(pair, f"w_exponent{lane}").eq(weights[MANTISSAS:]),
                    getattr(pair, f"preset_sum{lane}").eq(preset.sums[number % GROUP]),
                ]
                self._results(m, number, getattr(pair, f"sum{lane}"), control, read_result)
        return delayed(m, control.final, 2)

    def _weights(self, m, number, control, written):
        """Weight memory of a lane, and the block that it reads; the lane keeps it while pixels take turns."""
        high, found = Cat(written.half, written.exponent), []
        for half, (name, word) in enumerate((("weights", written.half), ("weights_high", high))):
            m.submodules[f"{name}{number}"] = ram = memory.Memory(
                shape=len(word), depth=self.depth, init=[], attrs=UNORDERED
            )
            write, read = ram.write_port(), ram.read_port()
            m.d.comb += [
                write.addr.eq(written.address),
                write.data.eq(word),
                write.en.eq(written.enable & (written.lane == number) & (written.high == half)),
                read.addr.eq(control.panel),
                read.en.eq(1),
            ]
            found.append(read.data)
        return Cat(found)

    def _results(self, m, number, found, control, read_result):
        m.submodules[f"results{number}"] = ram = memory.Memory(
            shape=34, depth=self.result_depth, init=[], attrs=UNORDERED
        )
        write, read = ram.write_port(), ram.read_port()
        m.d.comb += [
            write.addr.eq(delayed_data(m, control.result, 1)),
            write.data.eq(delayed_data(m, found, 1)),
            write.en.eq(delayed(m, control.ends, 1)),
            read.addr.eq(read_result),
            read.en.eq(1),
            self.results[number].eq(delayed_data(m, read.data, 1)),
        ]
