"""The load unit: feature maps from external memory. See docs/spec/isa.md §6."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .block_dot import BLOCK_BITS
from .external import BEAT, PIECE, REQUEST, PieceReader
from .instructions import as_kind, unit_words
from .operands import WORD_VALUES
from .packing import block_bytes, unpacked
from .pipeline import delayed, less_one, named
from .shared_memory import write_signature
from .unit_model import run_instruction
from .walker import Products, Walker

FLOAT32_CODE = 1
FLOAT32_BYTES = 128


class LoadUnit(wiring.Component):
    """Runs one `load` after another.

    Parameters
    ----------
    block_bits, word_bits : int
        Address bits of activation memory (blocks) and vector memory (words of four values).
    most_bits : int
        Widest activation format.

    Members
    -------
    instruction, start, done
        As those of `VectorUnit`.
    section : In(32)
        Address of the section that the instruction names.
    write_blocks, write_words
        Ports of the memories.
    request, response
        A user's side of `MemoryMaster`.
    """

    opcodes = ("load",)
    model = staticmethod(run_instruction)

    def __init__(self, block_bits: int, word_bits: int, most_bits: int = 8):
        self.block_bits, self.word_bits, self.most_bits = block_bits, word_bits, most_bits
        super().__init__(
            {
                "instruction": In(32 * unit_words("load")),
                "start": In(1),
                "done": Out(1, init=1),
                "section": In(32),
                "write_blocks": Out(write_signature(block_bits, BLOCK_BITS)),
                "write_words": Out(write_signature(word_bits, 32 * WORD_VALUES)),
                "request": Out(stream.Signature(REQUEST)),
                "response": In(stream.Signature(8 * BEAT)),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        i = as_kind(self.instruction, "load")
        width = max(self.block_bits, self.word_bits - 3)
        tag = data.StructLayout({"address": width, "part": 2, "last": 1})
        m.submodules.reader = reader = PieceReader(tag.size)
        connect(m, reader.request, flipped(self.request))
        connect(m, reader.response, flipped(self.response))
        vector = delayed(m, i.out_format == FLOAT32_CODE, 1)
        size = delayed(m, Mux(i.out_format == FLOAT32_CODE, FLOAT32_BYTES, block_bytes(m, i.out_format)), 1)
        self._ask(m, i, vector, size, reader.i, width)
        self._keep(m, i, vector, reader.o, tag)
        return m

    def _ask(self, m, i, vector, size, pieces, width):
        """Ask for each block's mantissas and exponent, or for the quarters of each vector."""
        m.submodules.pixels = pixels = Walker({"values": 32, "exponents": 32, "out": width})
        m.submodules.products = products = Products(("pixel",), 24)
        block, values, part = Signal(16), Signal(24), Signal(2)
        last_block = named(m, block == less_one(m, i.out_blocks), "last_block")
        last_part = named(m, Mux(vector, part == 3, part == 1), "last_part")
        exponent = named(m, ~vector & (part == 1), "exponent")
        m.d.comb += [
            products.start.eq(self.start),
            *products.set_factors("pixel", i.pixel_pitch, size),
            pixels.rows.eq(i.out_rows),
            pixels.columns.eq(i.out_columns),
            *pixels.set_track("values", self.section + i.offset, i.row_pitch, products.pixel),
            *pixels.set_track("exponents", self.section + i.exponents, i.exponent_pitch, i.pixel_pitch),
            *pixels.set_track("out", i.out_address, i.out_row, i.out_pixel),
            pieces.payload.address.eq(Mux(exponent, pixels.exponents + block, pixels.values + values)),
            pieces.payload.bytes.eq(Mux(exponent, 1, Mux(vector, PIECE, size))),
            pieces.payload.tag.eq(
                Cat((pixels.out + block)[:width], part, pixels.last & last_block & last_part)
            ),
        ]
        with m.FSM(name="ask"):
            with m.State("IDLE"):
                m.d.sync += [block.eq(0), values.eq(0), part.eq(0)]
                with m.If(self.start):
                    m.next = "PRODUCTS"
            with m.State("PRODUCTS"):
                m.d.comb += pixels.restart.eq(1)
                with m.If(products.done):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += pieces.valid.eq(1)
                with m.If(pieces.ready):
                    m.d.sync += part.eq(part + 1)
                    with m.If(~exponent):
                        m.d.sync += values.eq(values + Mux(vector, PIECE, size))
                    with m.If(last_part):
                        m.d.sync += [part.eq(0), block.eq(block + 1)]
                        with m.If(last_block):
                            m.d.sync += [block.eq(0), values.eq(0)]
                            m.d.comb += pixels.advance.eq(1)
                            with m.If(pixels.last):
                                m.next = "IDLE"

    def _keep(self, m, i, vector, pieces, tag):
        """Write a block when its exponent has come, and a quarter of a vector as two words."""
        note, mantissas, half = (
            data.View(tag, pieces.payload.tag),
            Signal(BLOCK_BITS - 8, reset_less=True),
            Signal(),
        )
        is_mantissas = named(m, ~vector & (note.part == 0), "is_mantissas")
        m.d.comb += [
            self.write_blocks.valid.eq(pieces.valid & ~vector & ~is_mantissas),
            self.write_blocks.address.eq(note.address),
            self.write_blocks.data.eq(Cat(mantissas, pieces.payload.byte)),
            self.write_words.valid.eq(pieces.valid & vector),
            self.write_words.address.eq(Cat(half, note.part, note.address)),
            self.write_words.data.eq(Mux(half, pieces.payload.data[128:], pieces.payload.data[:128])),
            pieces.ready.eq(
                Mux(vector, self.write_words.ready & half, self.write_blocks.ready | is_mantissas)
            ),
        ]
        with m.If(pieces.valid & is_mantissas):
            m.d.sync += mantissas.eq(unpacked(pieces.payload.data, i.out_format, self.most_bits))
        with m.If(self.write_words.valid & self.write_words.ready):
            m.d.sync += half.eq(~half)
        with m.If(self.start):
            m.d.sync += self.done.eq(0)
        with m.If(pieces.valid & pieces.ready & note.last):
            m.d.sync += self.done.eq(1)
