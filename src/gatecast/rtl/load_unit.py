"""The load unit: feature maps from external memory. See docs/spec/isa.md §6."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .block_dot import BLOCK_BITS
from .external import BEAT
from .instructions import as_kind, unit_words
from .operands import VECTOR_WORDS, WORD_VALUES
from .packing import block_bytes
from .pipeline import delayed, less_one, named
from .reader import found_layout, piece_layout
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

    Members
    -------
    instruction, start, done
        As those of `VectorUnit`.
    section : In(32)
        Address of the section that the instruction names.
    write_blocks, write_words
        Ports of the memories.
    ask, found
        A user's side of `Reader`.
    """

    opcodes = ("load",)
    model = staticmethod(run_instruction)

    def __init__(self, block_bits: int, word_bits: int):
        self.block_bits, self.word_bits = block_bits, word_bits
        self.tag = data.StructLayout({"address": max(block_bits, word_bits - 3), "part": 3, "last": 1})
        super().__init__(
            {
                "instruction": In(32 * unit_words("load")),
                "start": In(1),
                "done": Out(1, init=1),
                "section": In(32),
                "write_blocks": Out(write_signature(block_bits, BLOCK_BITS)),
                "write_words": Out(write_signature(word_bits, 32 * WORD_VALUES)),
                "ask": Out(stream.Signature(piece_layout(self.tag.size))),
                "found": In(stream.Signature(found_layout(self.tag.size))),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        i = as_kind(self.instruction, "load")
        vector = delayed(m, i.out_format == FLOAT32_CODE, 1)
        size = delayed(m, Mux(i.out_format == FLOAT32_CODE, FLOAT32_BYTES, block_bytes(m, i.out_format)), 1)
        self._ask(m, i, vector, size)
        self._keep(m, vector)
        return m

    def _ask(self, m, i, vector, size):
        """Ask for each block's exponent and halves, or for the words of each vector."""
        width = self.tag["address"].width
        m.submodules.pixels = pixels = Walker({"values": 32, "exponents": 32, "out": width})
        m.submodules.products = products = Products(("pixel",), 24)
        block, values, part, ask = Signal(16), Signal(24), Signal(3), self.ask.payload
        last_block = named(m, block == less_one(m, i.out_blocks), "last_block")
        exponent = named(m, ~vector & (part == 0), "exponent")
        last_part = named(m, Mux(vector, part == VECTOR_WORDS - 1, part == 2), "last_part")
        m.d.comb += [
            products.start.eq(self.start),
            *products.set_factors("pixel", i.pixel_pitch, size),
            pixels.rows.eq(i.out_rows),
            pixels.columns.eq(i.out_columns),
            *pixels.set_track("values", self.section + i.offset, i.row_pitch, products.pixel),
            *pixels.set_track("exponents", self.section + i.exponents, i.exponent_pitch, i.pixel_pitch),
            *pixels.set_track("out", i.out_address, i.out_row, i.out_pixel),
            ask.address.eq(Mux(exponent, pixels.exponents + block, pixels.values + values)),
            ask.code.eq(i.out_format),
            ask.raw.eq(vector),
            ask.single.eq(exponent),
            ask.follows.eq(Mux(vector, part != 0, part == 2)),
            ask.more.eq(~exponent & ~last_part),
            ask.tag.eq(Cat((pixels.out + block)[:width], part, pixels.last & last_block & last_part)),
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
                m.d.comb += self.ask.valid.eq(1)
                with m.If(self.ask.ready):
                    m.d.sync += part.eq(part + 1)
                    with m.If(~exponent):
                        m.d.sync += values.eq(values + Mux(vector, BEAT, size >> 1))
                    with m.If(last_part):
                        m.d.sync += [part.eq(0), block.eq(block + 1)]
                        with m.If(last_block):
                            m.d.sync += [block.eq(0), values.eq(0)]
                            m.d.comb += pixels.advance.eq(1)
                            with m.If(pixels.last):
                                m.next = "IDLE"

    def _keep(self, m, vector):
        """Write a block when its second half has come, and each word of a vector."""
        found, exponent = self.found.payload, Signal(8, reset_less=True)
        note = data.View(self.tag, found.tag)
        whole = named(m, ~vector & (note.part == 2), "whole")
        m.d.comb += [
            self.write_blocks.valid.eq(self.found.valid & whole),
            self.write_blocks.address.eq(note.address),
            self.write_blocks.data.eq(Cat(found.before, found.piece, exponent)),
            self.write_words.valid.eq(self.found.valid & vector),
            self.write_words.address.eq(Cat(note.part, note.address)),
            self.write_words.data.eq(found.piece),
            self.found.ready.eq(Mux(vector, self.write_words.ready, self.write_blocks.ready | ~whole)),
        ]
        with m.If(self.found.valid & ~vector & (note.part == 0)):
            m.d.sync += exponent.eq(found.byte)
        with m.If(self.start):
            m.d.sync += self.done.eq(0)
        with m.If(self.found.valid & self.found.ready & note.last):
            m.d.sync += self.done.eq(1)
