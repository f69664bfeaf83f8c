"""The weights unit: panels to weight memory, constants to vector memory. See docs/spec/isa.md §6."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..numerics import BLOCK_SIZE
from .external import BEAT, PIECE, REQUEST, PieceReader
from .instructions import BY_NAME, as_kind, unit_words
from .load_unit import FLOAT32_BYTES
from .operands import WORD_VALUES
from .packing import block_bytes, unpacked
from .pipeline import delayed, named
from .shared_memory import write_signature
from .unit_model import run_instruction


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
    most_bits : int
        Widest weight format.

    Members
    -------
    instruction, start, done, section
        As those of `LoadUnit`.
    written : Out
        Weights, a lane each; see `MatrixVector`.
    write_words
        Port of vector memory.
    request, response
        A user's side of `MemoryMaster`.
    """

    opcodes = ("weights", "constants")
    model = staticmethod(run_instruction)

    def __init__(self, written, lanes: int, panels: int, word_bits: int, most_bits: int = 8):
        self.lanes, self.panels, self.word_bits, self.most_bits = lanes, panels, word_bits, most_bits
        super().__init__(
            {
                "instruction": In(32 * unit_words("weights")),
                "start": In(1),
                "done": Out(1, init=1),
                "section": In(32),
                "written": Out(written),
                "write_words": Out(write_signature(word_bits, 32 * WORD_VALUES)),
                "request": Out(stream.Signature(REQUEST)),
                "response": In(stream.Signature(8 * BEAT)),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        i, constants = as_kind(self.instruction, "weights"), as_kind(self.instruction, "constants")
        is_panels = delayed(m, self.instruction[:8] == BY_NAME["weights"].opcode, 1)
        tag = data.StructLayout({"part": range(BLOCK_SIZE + 1), "last": 1})
        m.submodules.reader = reader = PieceReader(tag.size)
        connect(m, reader.request, flipped(self.request))
        connect(m, reader.response, flipped(self.response))
        offset = Mux(is_panels, i.offset, constants.offset)
        count = Mux(is_panels, i.count, constants.count)
        self._ask(m, is_panels, delayed(m, block_bytes(m, i.format), 1), (offset, count), reader.i)
        self._keep(m, i, constants, is_panels, reader.o, tag)
        return m

    def _ask(self, m, is_panels, size, given, pieces):
        """Of a panel its exponents first, then the blocks of its lanes; of a vector its quarters."""
        offset, count = given
        running, part, left, at, panel = Signal(), Signal(6), Signal(24), Signal(32), Signal(32)
        last_part = named(m, Mux(is_panels, part == BLOCK_SIZE, part == 3), "last_part")
        exponents = named(m, is_panels & (part == 0), "exponents")
        m.d.comb += [
            pieces.valid.eq(running),
            pieces.payload.address.eq(Mux(exponents, panel + (size << 5), at)),
            pieces.payload.bytes.eq(Mux(is_panels & ~exponents, size, PIECE)),
            pieces.payload.tag.eq(Cat(part, last_part & (left == 0))),
        ]
        with m.If(running & pieces.ready):
            m.d.sync += [part.eq(part + 1), at.eq(at + Mux(exponents, 0, Mux(is_panels, size, PIECE)))]
            with m.If(last_part):
                following = Mux(is_panels, panel + (size << 5) + BLOCK_SIZE, panel + FLOAT32_BYTES)
                m.d.sync += [part.eq(0), left.eq(left - 1), panel.eq(following), at.eq(following)]
                with m.If(left == 0):
                    m.d.sync += running.eq(0)
        with m.If(delayed(m, self.start, 1)):  # `section` follows the instruction a cycle later
            start = named(m, (self.section + offset)[:32], "start")
            m.d.sync += [running.eq(1), part.eq(0), left.eq(count - 1), panel.eq(start), at.eq(start)]

    def _keep(self, m, i, constants, is_panels, pieces, tag):
        note = data.View(tag, pieces.payload.tag)
        exponents, half = Signal(8 * BLOCK_SIZE, reset_less=True), Signal()
        passes = BLOCK_SIZE // self.lanes
        panel, vector = Signal(range(self.panels)), Signal(self.word_bits - 3)
        channel = named(m, (note.part - 1)[:5], "channel")
        is_block = named(m, pieces.valid & is_panels & (note.part != 0), "is_block")
        lane_bits = (self.lanes - 1).bit_length()
        written = Signal(self.written.shape())
        m.d.sync += self.written.eq(written)
        place = Cat(channel[lane_bits:], panel) if passes > 1 else panel
        m.d.comb += [
            written.enable.eq(is_block),
            written.lane.eq(channel[:lane_bits]),
            written.address.eq(place),
            written.block.eq(Cat(unpacked(pieces.payload.data, i.format, self.most_bits), exponents[:8])),
            self.write_words.valid.eq(pieces.valid & ~is_panels),
            self.write_words.address.eq(Cat(half, note.part[:2], vector)),
            self.write_words.data.eq(Mux(half, pieces.payload.data[128:], pieces.payload.data[:128])),
            pieces.ready.eq(is_panels | (self.write_words.ready & half)),
        ]
        with m.If(pieces.valid & is_panels):
            m.d.sync += exponents.eq(Mux(note.part == 0, pieces.payload.data, exponents >> 8))
            with m.If(note.part == BLOCK_SIZE):
                m.d.sync += panel.eq(Mux(panel == self.panels - 1, 0, panel + 1))
        with m.If(self.write_words.valid & self.write_words.ready):
            m.d.sync += half.eq(~half)
            with m.If(half & (note.part[:2] == 3)):
                m.d.sync += vector.eq(vector + 1)
        with m.If(pieces.valid & pieces.ready & note.last):
            m.d.sync += self.done.eq(1)
        with m.If(self.start):
            m.d.sync += [self.done.eq(0), panel.eq(i.address), vector.eq(constants.address)]
