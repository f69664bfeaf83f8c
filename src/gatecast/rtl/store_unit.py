"""The store unit: feature maps to external memory. See docs/spec/isa.md §6."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .block_dot import BLOCK_BITS, MANTISSAS
from .external import BEAT, REQUEST, PieceWriter
from .instructions import as_kind, unit_words
from .load_unit import FLOAT32_BYTES, FLOAT32_CODE
from .operands import VECTOR_WORDS, WORD_VALUES
from .packing import BITS, FIRST_CODE, block_bytes, packed
from .pipeline import delayed, less_one, named, registered
from .shared_memory import read_signature
from .unit_model import run_instruction
from .walker import Products, Walker


class StoreUnit(wiring.Component):
    """Runs one `store` after another; parameters and members as those of `LoadUnit`, reading on chip."""

    opcodes = ("store",)
    model = staticmethod(run_instruction)

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
        m.submodules.writer = writer = PieceWriter()
        connect(m, writer.request, flipped(self.request))
        vector = delayed(m, i.in_format == FLOAT32_CODE, 1)
        size = delayed(m, Mux(i.in_format == FLOAT32_CODE, FLOAT32_BYTES, block_bytes(m, i.in_format)), 1)
        places = self._walk(m, i, size)
        loads = Signal()
        self._piece(m, i, (vector, size), places, loads, writer)
        self._run(m, vector, places, loads, writer)
        return m

    def _piece(self, m, i, kind, places, loads, writer):
        """What is written next of what was read last, in a register that takes it where `loads`."""
        vector, size = kind
        found, word = Signal(BLOCK_BITS, reset_less=True), Signal(32 * WORD_VALUES, reset_less=True)
        formats = delayed(m, (1 << (i.in_format - FIRST_CODE)[:3])[: len(BITS)], 1, reset_less=True)
        with m.If(self.read_blocks.answered):
            m.d.sync += found.eq(self.read_blocks.data)
        with m.If(self.read_words.answered):
            m.d.sync += word.eq(self.read_words.data)
        second, is_exponent = places.turn[0], places.turn[1]
        half = named(m, Mux(second, found[8 * BEAT : MANTISSAS], found[: 8 * BEAT]), "half")
        values = Mux(vector, word, packed(half, formats, self.most_bits))
        exponent = found[MANTISSAS:].replicate(2)
        # where the block begins is known while it is read
        start, exponents = registered(
            m, True, places.pixels.values + places.values, places.pixels.exponents + places.block
        )
        offset = Mux(vector, Cat(Const(0, 4), places.word), Mux(second, size >> 1, 0))
        piece = writer.i.payload
        with m.If(loads):
            m.d.sync += [
                piece.data.eq(Cat(Mux(is_exponent, exponent, values[:16]), values[16:])),
                piece.address.eq(Mux(is_exponent, exponents, start + offset)),
                piece.bytes.eq(Mux(is_exponent, 1, Mux(vector, BEAT, size >> 1))),
            ]

    def _walk(self, m, i, size):
        """Places of the map's blocks on chip and in external memory."""
        width = max(self.block_bits, self.word_bits - 3)
        m.submodules.pixels = pixels = Walker({"values": 32, "exponents": 32, "in": width})
        m.submodules.products = products = Products(("pixel",), 24)
        places = _Places(pixels, products)
        address = named(m, (getattr(pixels, "in") + places.block)[:width], "address")
        m.d.comb += [
            products.start.eq(self.start),
            *products.set_factors("pixel", i.pixel_pitch, size),
            pixels.rows.eq(i.in_rows),
            pixels.columns.eq(i.in_columns),
            *pixels.set_track("values", self.section + i.offset, i.row_pitch, products.pixel),
            *pixels.set_track("exponents", self.section + i.exponents, i.exponent_pitch, i.pixel_pitch),
            *pixels.set_track("in", i.in_address, i.in_row, i.in_pixel),
            self.read_blocks.address.eq(address),
            self.read_words.address.eq(Cat(places.word, address)),
        ]
        last_block = named(m, places.block == less_one(m, i.in_blocks), "last_block")
        m.d.comb += places.last.eq(pixels.last & last_block)
        with m.If(places.next_block):
            m.d.sync += [places.block.eq(places.block + 1), places.values.eq(places.values + size)]
            with m.If(last_block):
                m.d.sync += [places.block.eq(0), places.values.eq(0)]
                m.d.comb += pixels.advance.eq(1)
        return places

    def _run(self, m, vector, places, loads, writer):
        """Read a block or word, hand on its pieces; then the next."""
        with m.If(writer.i.ready):
            m.d.sync += writer.i.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += self.done.eq(0)
                m.next = "PRODUCTS"
            with m.State("PRODUCTS"):
                m.d.comb += places.pixels.restart.eq(1)
                with m.If(places.products.done):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [self.read_blocks.valid.eq(~vector), self.read_words.valid.eq(vector)]
                with m.If(Mux(vector, self.read_words.ready, self.read_blocks.ready)):
                    m.next = "ANSWER"
            with m.State("ANSWER"), m.If(self.read_words.answered | self.read_blocks.answered):
                m.next = "PIECES"
            with m.State("PIECES"):
                m.d.comb += loads.eq(~writer.i.valid | writer.i.ready)
                with m.If(loads):
                    m.d.sync += [writer.i.valid.eq(1), places.turn.eq(places.turn + 1)]
                    with m.If(vector):
                        m.d.sync += [places.turn.eq(0), places.word.eq(places.word + 1)]
                        m.next = "READ"
                        with m.If(places.word == VECTOR_WORDS - 1):
                            m.next = "NEXT"
                    with m.Elif(places.turn[1]):
                        m.d.sync += places.turn.eq(0)
                        m.next = "NEXT"
            with m.State("NEXT"):
                m.d.comb += places.next_block.eq(1)
                m.next = "READ"
                with m.If(places.last):
                    m.next = "DRAIN"
            with m.State("DRAIN"), m.If(writer.idle & ~writer.i.valid):
                m.d.sync += self.done.eq(1)
                m.next = "IDLE"


class _Places:
    """Where a `StoreUnit` is: block of the pixel, its bytes, word of the vector or piece of the block."""

    def __init__(self, pixels: Walker, products: Products):
        self.pixels, self.products = pixels, products
        self.block, self.values, self.word = Signal(16), Signal(24), Signal(range(VECTOR_WORDS))
        self.next_block, self.last, self.turn = Signal(), Signal(), Signal(2)
