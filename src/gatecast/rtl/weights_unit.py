"""The weights unit: panels to weight memory, constants to vector memory. See docs/spec/isa.md §6."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..numerics import BLOCK_SIZE
from .external import BEAT
from .instructions import BY_NAME, as_kind, unit_words
from .load_unit import FLOAT32_BYTES
from .operands import VECTOR_WORDS, WORD_VALUES
from .packing import HALF, block_bytes
from .pipeline import delayed, named
from .reader import found_layout, piece_layout
from .shared_memory import write_signature
from .unit_model import run_instruction

PARTS = BLOCK_SIZE
"""Halves of blocks in half a panel: 16 exponents come before them."""


class WeightsUnit(wiring.Component):
    """Runs one `weights` or `constants` after another.

    Parameters
    ----------
    written : Layout
        That of `MatrixVector.written`.
    lanes, panels : int
        Lanes; panels of weight memory, which wraps.
    word_bits : int
        Address bits of vector memory (words of four values).

    Members
    -------
    instruction, start, done, section
        As those of `LoadUnit`.
    written : Out
        Weights, half a block of a lane each; see `MatrixVector`.
    write_words
        Port of vector memory.
    ask, found
        A user's side of `Reader`.
    """

    opcodes = ("weights", "constants")
    model = staticmethod(run_instruction)

    def __init__(self, written, lanes: int, panels: int, word_bits: int):
        self.lanes, self.panels, self.word_bits = lanes, panels, word_bits
        self.tag = data.StructLayout({"part": range(PARTS + 1), "group": 1, "last": 1})
        super().__init__(
            {
                "instruction": In(32 * unit_words("weights")),
                "start": In(1),
                "done": Out(1, init=1),
                "section": In(32),
                "written": Out(written),
                "write_words": Out(write_signature(word_bits, 32 * WORD_VALUES)),
                "ask": Out(stream.Signature(piece_layout(self.tag.size))),
                "found": In(stream.Signature(found_layout(self.tag.size))),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        i, constants = as_kind(self.instruction, "weights"), as_kind(self.instruction, "constants")
        is_panels = delayed(m, self.instruction[:8] == BY_NAME["weights"].opcode, 1)
        offset = Mux(is_panels, i.offset, constants.offset)
        count = Mux(is_panels, i.count, constants.count)
        self._ask(m, is_panels, i.format, delayed(m, block_bytes(m, i.format), 1), (offset, count))
        self._keep(m, i, constants, is_panels)
        return m

    def _ask(self, m, is_panels, code, size, given):
        """Of each half of a panel its exponents, then the halves of its blocks; of a vector its words."""
        offset, count = given
        running, group, part, left = Signal(), Signal(), Signal(6), Signal(24)
        at, panel, ask = Signal(32), Signal(32), self.ask.payload
        exponents = named(m, is_panels & (part == 0), "exponents")
        last_part = named(m, Mux(is_panels, part == PARTS, part == VECTOR_WORDS - 1), "last_part")
        ends = named(m, last_part & (group | ~is_panels), "ends")
        m.d.comb += [
            self.ask.valid.eq(running),
            ask.address.eq(Mux(exponents, panel + (size << 5) + (group << 4), at)),
            ask.code.eq(code),
            ask.raw.eq(~is_panels | exponents),
            ask.follows.eq(Mux(is_panels, ~exponents & ~part[0], part != 0)),
            ask.more.eq(Mux(is_panels, part[0], ~last_part)),
            ask.tag.eq(Cat(part, group, ends & (left == 0))),
        ]
        with m.If(running & self.ask.ready):
            m.d.sync += part.eq(part + 1)
            m.d.sync += at.eq(at + Mux(exponents, 0, Mux(is_panels, size >> 1, BEAT)))
            with m.If(last_part):
                m.d.sync += [part.eq(0), group.eq(~group & is_panels)]
            with m.If(ends):
                following = Mux(is_panels, panel + (size << 5) + BLOCK_SIZE, panel + FLOAT32_BYTES)
                m.d.sync += [left.eq(left - 1), panel.eq(following), at.eq(following)]
                with m.If(left == 0):
                    m.d.sync += running.eq(0)
        with m.If(delayed(m, self.start, 1)):  # `section` follows the instruction a cycle later
            start = named(m, (self.section + offset)[:32], "start")
            m.d.sync += [running.eq(1), part.eq(0), group.eq(0), left.eq(count - 1)]
            m.d.sync += [panel.eq(start), at.eq(start)]

    def _keep(self, m, i, constants, is_panels):
        found = self.found.payload
        note = data.View(self.tag, found.tag)
        exponents, passes = Signal(8 * HALF, reset_less=True), BLOCK_SIZE // self.lanes
        panel, vector = Signal(range(self.panels)), Signal(self.word_bits - 3)
        channel = named(m, Cat((note.part - 1)[1:5], note.group), "channel")
        is_exponents = named(m, note.part == 0, "is_exponents")
        is_half = named(m, self.found.valid & is_panels & ~is_exponents, "is_half")
        ends = named(m, is_half & ~note.part[0], "ends_block")
        lane_bits = (self.lanes - 1).bit_length()
        m.d.comb += [
            self.written.enable.eq(is_half),
            self.written.lane.eq(channel[:lane_bits]),
            self.written.address.eq(Cat(channel[lane_bits:], panel) if passes > 1 else panel),
            self.written.high.eq(~note.part[0]),
            self.written.half.eq(found.piece),
            self.written.exponent.eq(exponents[:8]),
            self.write_words.valid.eq(self.found.valid & ~is_panels),
            self.write_words.address.eq(Cat(note.part[:3], vector)),
            self.write_words.data.eq(found.piece),
            self.found.ready.eq(is_panels | self.write_words.ready),
        ]
        with m.If(ends | (self.found.valid & is_panels & is_exponents)):
            m.d.sync += exponents.eq(Mux(is_exponents, found.piece, exponents >> 8))
        with m.If(ends & (channel == BLOCK_SIZE - 1)):
            m.d.sync += panel.eq(Mux(panel == self.panels - 1, 0, panel + 1))
        with m.If(self.write_words.valid & self.write_words.ready & (note.part[:3] == VECTOR_WORDS - 1)):
            m.d.sync += vector.eq(vector + 1)
        with m.If(self.found.valid & self.found.ready & note.last):
            m.d.sync += self.done.eq(1)
        with m.If(self.start):
            m.d.sync += [self.done.eq(0), panel.eq(i.address), vector.eq(constants.address)]
