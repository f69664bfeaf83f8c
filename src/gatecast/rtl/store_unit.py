"""The store unit: feature maps to external memory. See docs/spec/isa.md §6."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .block_dot import BLOCK_BITS, MANTISSAS
from .external import BEAT, REQUEST, PieceWriter
from .instructions import as_kind, unit_words
from .load_unit import FLOAT32_BYTES, FLOAT32_CODE
from .operands import VECTOR_WORDS, WORD_VALUES
from .packing import block_bytes, packed
from .pipeline import named
from .shared_memory import read_signature
from .walker import Products, Walker


class StoreUnit(wiring.Component):
    """Runs one `store` after another; parameters and members as those of `LoadUnit`, reading on chip."""

    opcodes = ("store",)

    def __init__(self, block_bits: int, word_bits: int, most_bits: int = 8):
        self.block_bits, self.word_bits, self.most_bits = block_bits, word_bits, most_bits
        super().__init__(
            {
                "instruction": In(32 * unit_words("store")),
                "start": In(1),
                "done": Out(1, init=1),
                "section": In(32),
                "read_blocks": Out(read_signature(block_bits, BLOCK_BITS)),
                "read_words": Out(read_signature(word_bits, 32 * WORD_VALUES)),
                "request": Out(stream.Signature(REQUEST)),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        i = as_kind(self.instruction, "store")
        width = max(self.block_bits, self.word_bits - 3)
        m.submodules.writer = writer = PieceWriter()
        connect(m, writer.request, flipped(self.request))
        m.submodules.pixels = pixels = Walker({"values": 32, "exponents": 32, "in": width})
        m.submodules.products = products = Products(("pixel",), 24)
        vector = named(m, i.in_format == FLOAT32_CODE, "vector")
        size, block, values, word = Signal(8), Signal(16), Signal(32), Signal(range(VECTOR_WORDS))
        address = named(m, (getattr(pixels, "in") + block)[:width], "address")
        m.d.comb += [
            size.eq(Mux(vector, FLOAT32_BYTES, block_bytes(m, i.in_format))),
            products.start.eq(self.start),
            *products.set_factors("pixel", i.pixel_pitch, size),
            pixels.rows.eq(i.in_rows),
            pixels.columns.eq(i.in_columns),
            *pixels.set_track("values", self.section + i.offset, i.row_pitch, products.pixel),
            *pixels.set_track("exponents", self.section + i.exponents, i.exponent_pitch, i.pixel_pitch),
            *pixels.set_track("in", i.in_address, i.in_row, i.in_pixel),
            self.read_blocks.address.eq(address),
            self.read_words.address.eq(Cat(word, address)),
        ]
        found, exponent = Signal(MANTISSAS, reset_less=True), Signal(8, reset_less=True)
        with m.If(self.read_blocks.answered):
            m.d.sync += [
                found.eq(packed(self.read_blocks.data, i.in_format, self.most_bits)),
                exponent.eq(self.read_blocks.data[MANTISSAS:]),
            ]
        with m.If(self.read_words.answered):
            m.d.sync += found.eq(self.read_words.data)
        self._run(m, i, vector, size, (block, values, word), pixels, products, writer, (found, exponent))
        return m

    def _run(self, m, i, vector, size, counters, pixels, products, writer, found):
        """Read a block or word, write its bytes, write its exponent; then the next."""
        block, values, word = counters
        port_ready = Mux(vector, self.read_words.ready, self.read_blocks.ready)
        answered = self.read_words.answered | self.read_blocks.answered
        piece = writer.i.payload
        at = pixels.values + values + Cat(Const(0, 4), word)
        next_block = Signal()
        m.d.comb += [
            piece.address.eq(at),
            piece.bytes.eq(Mux(vector, BEAT, size)),
            piece.data.eq(found[0]),
        ]
        with m.If(next_block):
            m.d.sync += [block.eq(block + 1), values.eq(values + size)]
            with m.If(block == i.in_blocks - 1):
                m.d.sync += [block.eq(0), values.eq(0)]
                m.d.comb += pixels.advance.eq(1)
        done = named(m, pixels.last & (block == i.in_blocks - 1), "last")
        with m.FSM(name="store"):
            with m.State("IDLE"):
                m.d.sync += [block.eq(0), values.eq(0), word.eq(0)]
                with m.If(self.start):
                    m.d.sync += self.done.eq(0)
                    m.next = "PRODUCTS"
            with m.State("PRODUCTS"):
                m.d.comb += pixels.restart.eq(1)
                with m.If(products.done):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [self.read_blocks.valid.eq(~vector), self.read_words.valid.eq(vector)]
                with m.If(port_ready):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                with m.If(answered):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += writer.i.valid.eq(1)
                with m.If(writer.i.ready):
                    m.next = "EXPONENT"
                    with m.If(vector):
                        m.d.sync += word.eq(word + 1)
                        m.next = "READ"
                        with m.If(word == VECTOR_WORDS - 1):
                            m.d.comb += next_block.eq(1)
                            with m.If(done):
                                m.next = "DRAIN"
            with m.State("EXPONENT"):
                m.d.comb += [
                    writer.i.valid.eq(1),
                    piece.address.eq(pixels.exponents + block),
                    piece.bytes.eq(1),
                    piece.data.eq(found[1]),
                ]
                with m.If(writer.i.ready):
                    m.d.comb += next_block.eq(1)
                    m.next = "READ"
                    with m.If(done):
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(writer.idle):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
