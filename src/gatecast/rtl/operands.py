"""Operands for the units that work on values: blocks and vectors read from memory, decoded, row by row."""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from ..numerics import BLOCK_SIZE, FORMATS, decode_blocks
from .block_dot import BLOCK_BITS, MANTISSAS
from .pipeline import QUEUE, Ahead, delayed, named, one_of, registered, shift_out
from .shared_memory import READ_LATENCY, read_signature

WORD_VALUES = 4
"""Values of a word of vector memory, which has 128 bits."""

VECTOR_WORDS = BLOCK_SIZE // WORD_VALUES
"""Words of a vector."""


def decode_value(m: Module, mantissa, exponent):
    """IEEE bits of ``mantissa * 2**(exponent - 127 - 6)``, exactly."""
    part = _magnitude(m, mantissa)
    return _value(m, part[:7], part[7], exponent)


def _magnitude(m, mantissa):
    return Cat(named(m, Mux(mantissa[7], -mantissa, mantissa)[:7], "magnitude"), mantissa[7])


def _value(m, magnitude, sign, exponent):
    shifted, shift = shift_out(m, Cat(magnitude, Const(0, 1)), (4, 2, 1))  # bit 7 is 0, so at least 1
    found = Cat(Const(0, 16), shifted[:7], (exponent + 1 - shift)[:8], sign)
    return Mux(magnitude.any(), found, 0)


def request_layout(address_bits: int) -> data.StructLayout:
    """What `Operands` is asked for."""
    return data.StructLayout({"vector": 1, "address": address_bits, "tag": 2})


class Operands(wiring.Component):
    """Read the blocks and vectors asked for, and hand out their values as float32, `values` at a time.

    What memory answers is cut to *pieces*, a row of float32 values or four rows of mantissas, which wait in
    a queue: it is as wide as a row, not as a block.

    Parameters
    ----------
    values : int
        Values of a row; a row goes out each cycle if it is taken.
    block_bits, word_bits : int
        Address bits of activation memory (blocks) and vector memory (words of four values).

    Members
    -------
    i : In(stream)
        Requests: `vector`, whether in vector memory; `address` of the block or vector; `tag`, two bits that
        come back with each row.
    o : Out(stream)
        Rows in order, ``32 / values`` for a request: `values`, `tag`.
    blocks, words : Out(read_signature)
        Ports of both memories.
    """

    def __init__(self, values: int, block_bits: int, word_bits: int):
        self.values, self.piece = values, 32 * values
        self.block_pieces, self.word_pieces = MANTISSAS // self.piece, WORD_VALUES // values
        request = request_layout(max(block_bits, word_bits - 3))
        row = data.StructLayout({"values": data.ArrayLayout(32, values), "tag": 2})
        super().__init__(
            {
                "i": In(stream.Signature(request)),
                "o": Out(stream.Signature(row)),
                "blocks": Out(read_signature(block_bits, BLOCK_BITS)),
                "words": Out(read_signature(word_bits, 32 * WORD_VALUES)),
            }
        )

    def model(self, mantissas: np.ndarray, exponent: int) -> np.ndarray:
        """Values of a block with left-aligned mantissas int8 ``[32]``."""
        return decode_blocks(mantissas[None], np.array([exponent], np.uint8), FORMATS["bfp8"])[0]

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        entry = data.StructLayout({"data": self.piece, "exponent": 8, "vector": 1, "tag": 2})
        m.submodules.store = store = fifo.SyncFIFO(width=entry.size, depth=QUEUE)
        m.submodules.asked = asked = fifo.SyncFIFO(width=self.i.payload.shape().size, depth=4)
        m.d.comb += [
            asked.w_data.eq(self.i.payload),
            asked.w_en.eq(self.i.valid),
            self.i.ready.eq(asked.w_rdy),
        ]
        tag = self._request(m, asked, store)
        self._cut(m, entry, store, tag)
        self._hand_out(m, entry, store)
        return m

    def _request(self, m, asked, store):
        """Read so seldom that each answer is cut before the next one comes; returns its tag."""
        request, there = Signal(self.i.payload.shape()), Signal()
        word, pause = Signal(range(VECTOR_WORDS)), Signal(range(self.block_pieces))
        port_ready = Mux(request.vector, self.words.ready, self.blocks.ready)
        left, room = Signal(range(store.depth + 1), init=store.depth), Signal(init=1)
        open_ = named(m, there & room & (pause == 0), "open")
        taken = named(m, open_ & port_ready, "taken")
        ends = named(m, taken & (~request.vector | (word == VECTOR_WORDS - 1)), "ends")
        m.d.comb += [
            self.blocks.valid.eq(open_ & ~request.vector),
            self.words.valid.eq(open_ & request.vector),
            self.blocks.address.eq(request.address),
            self.words.address.eq(Cat(word, request.address)),
            asked.r_en.eq(~there | ends),
        ]
        with m.If(~there | ends):
            m.d.sync += [request.eq(asked.r_data), there.eq(asked.r_rdy)]
        pieces = Mux(request.vector, self.word_pieces, self.block_pieces)
        found = named(m, (left - Mux(taken, pieces, 0) + (store.r_en & store.r_rdy))[: len(left)], "left")
        m.d.sync += [left.eq(found), room.eq(found >= self.block_pieces)]
        with m.If(taken):
            m.d.sync += pause.eq(pieces - 1)
        with m.Elif(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        with m.If(taken & request.vector):
            m.d.sync += word.eq(word + 1)
        return delayed(m, request.tag, READ_LATENCY)

    def _cut(self, m, entry, store, tag):
        """Put an answer into the queue, piece after piece; all but the first wait in registers."""
        block, word, size = self.blocks.answered, self.words.answered, self.piece
        kept = data.View(entry, store.w_data)
        answers, left, parts = [(block, self.blocks.data[:MANTISSAS]), (word, self.words.data)], [], []
        for answered, content in answers:
            rest = Signal(len(content) - size, name="rest", reset_less=True)
            with m.If(answered):
                m.d.sync += rest.eq(content[size:])
            turns = [answered]
            for _ in range(len(rest) // size):
                turns.append(delayed(m, turns[-1], 1))
            left += turns
            parts += [content[:size], rest]
        exponent, vector, late_tag = (Signal(n, reset_less=True) for n in (8, 1, 2))
        note = self.blocks.data[MANTISSAS:], word, tag
        with m.If(block | word):
            m.d.sync += [
                signal.eq(value) for signal, value in zip((exponent, vector, late_tag), note, strict=True)
            ]
        note = Mux(block | word, Cat(note), Cat(exponent, vector, late_tag))
        m.d.comb += [
            store.w_en.eq(Cat(left).any()),
            kept.data.eq(one_of(Cat(left), Cat(parts), size)),
            Cat(kept.exponent, kept.vector, kept.tag).eq(note),
        ]

    def _hand_out(self, m, entry, store):
        current = Signal(entry, reset_less=True)
        left = Signal(range(5))  # rows of `current` to go
        head = data.View(entry, store.r_data)
        rows = Ahead(m, "rows", self.o, under_way=3)
        moves = named(m, rows.goes & (left != 0), "moves")
        m.d.comb += store.r_en.eq((left == 0) | (moves & (left == 1)))
        with m.If(store.r_en & store.r_rdy):
            m.d.sync += [current.eq(head), left.eq(Mux(head.vector, 1, 4))]
        with m.Elif(moves):
            m.d.sync += [current.data.eq(current.data >> 8 * self.values), left.eq(left - 1)]

        # magnitudes; then values; then the queue
        line = [
            moves,
            current.vector,
            current.exponent,
            current.data,
            current.tag,
        ]
        valid, vector, exponent, raw, tag = registered(m, True, *line)
        parts = [_magnitude(m, current.data[8 * i : 8 * i + 8]) for i in range(self.values)]
        row = []
        for i, part in enumerate(registered(m, True, *parts)):
            decoded = _value(m, part[:7], part[7], exponent)
            row.append(Mux(vector, raw[32 * i : 32 * i + 32], decoded))
        rows.put(m, *registered(m, True, valid, Cat(*row, tag)))
