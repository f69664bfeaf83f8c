"""External memory: one master for all units, and reads and writes of bytes at any address."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from .pipeline import QUEUE, named

BEAT = 16
"""Bytes of a beat."""

PIECE = 32
"""Most bytes of one read or write of a unit."""

_BEATS = (PIECE + BEAT - 1 + BEAT - 1) // BEAT  # a piece at any address

REQUEST = data.StructLayout({"address": 32, "write": 1, "data": 8 * BEAT, "mask": BEAT})


class MemoryMaster(wiring.Component):
    """Take requests of several users, the first in order that asks, and route the answers.

    Parameters
    ----------
    users : tuple of str
        The most urgent first.
    writers : tuple of str
        Those of them that write; the others only read.

    Members
    -------
    <user>_request : In(stream), <user>_response : Out(stream)
        Beats: byte address, a multiple of 16; reads are answered in order.
    request : Out(stream), response : In(stream)
        The memory's side. What is offered stays until taken.
    """

    def __init__(self, users: tuple[str, ...], writers: tuple[str, ...]):
        self.users, self.writers = users, writers
        members = {
            "request": Out(stream.Signature(REQUEST)),
            "response": In(stream.Signature(8 * BEAT)),
        }
        for user in users:
            members[f"{user}_request"] = In(stream.Signature(REQUEST))
            members[f"{user}_response"] = Out(stream.Signature(8 * BEAT))
        super().__init__(members)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        number_bits = max(1, (len(self.users) - 1).bit_length())
        m.submodules.owners = owners = fifo.SyncFIFO(width=number_bits, depth=32)
        room = named(m, (~self.request.valid | self.request.ready) & owners.w_rdy, "room")
        free = room
        with m.If(self.request.ready):
            m.d.sync += self.request.valid.eq(0)
        for number, user in enumerate(self.users):
            request = getattr(self, f"{user}_request")
            m.d.comb += request.ready.eq(free)
            with m.If(request.valid & request.ready):
                m.d.sync += self.request.valid.eq(1)
                if user in self.writers:
                    m.d.sync += self.request.payload.eq(request.payload)
                    m.d.comb += owners.w_en.eq(~request.payload.write)
                else:
                    m.d.sync += self.request.payload.address.eq(request.payload.address)
                    m.d.sync += self.request.payload.write.eq(0)
                    m.d.comb += owners.w_en.eq(1)
                m.d.comb += owners.w_data.eq(number)
            free = free & ~request.valid
            response = getattr(self, f"{user}_response")
            m.d.comb += [
                response.valid.eq(self.response.valid & owners.r_rdy & (owners.r_data == number)),
                response.payload.eq(self.response.payload),
            ]
            with m.If(owners.r_data == number):
                m.d.comb += self.response.ready.eq(response.ready & owners.r_rdy)
        m.d.comb += owners.r_en.eq(self.response.valid & self.response.ready)
        return m


class PieceReader(wiring.Component):
    """Read pieces of up to 32 bytes at multiples of 4, or single bytes; they come in order.

    Parameters
    ----------
    tag_bits : int
        Bits that a piece carries along.
    depth : int
        Pieces on their way.

    Members
    -------
    i : In(stream)
        Pieces: `address`, `bytes`, `tag`.
    o : Out(stream)
        `data`, bytes beyond the piece are anything; `byte`, the byte at `address`, which may be odd; `tag`.
    request, response
        A user's side of `MemoryMaster`.
    """

    def __init__(self, tag_bits: int, depth: int = 16):
        self.tag_bits, self.depth = tag_bits, depth
        found = data.StructLayout({"data": 8 * PIECE, "byte": 8, "tag": tag_bits})
        piece = data.StructLayout({"address": 32, "bytes": range(PIECE + 1), "tag": tag_bits})
        super().__init__(
            {
                "i": In(stream.Signature(piece)),
                "o": Out(stream.Signature(found)),
                "request": Out(stream.Signature(REQUEST)),
                "response": In(stream.Signature(8 * BEAT)),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        meta = data.StructLayout({"shift": 4, "last": 2, "tag": self.tag_bits})
        m.submodules.pieces = pieces = fifo.SyncFIFO(width=meta.size, depth=self.depth)
        shape, beat = self.i.payload.shape(), Signal(2)
        m.submodules.asked = asked = fifo.SyncFIFO(width=shape.size, depth=QUEUE)
        piece, there = data.View(shape, asked.r_data), asked.r_rdy
        last = named(m, (piece.address[:4] + piece.bytes - 1)[4:6], "last")
        note = data.View(meta, pieces.w_data)
        beat_taken = named(m, self.request.valid & self.request.ready, "beat_taken")
        m.d.comb += [
            self.request.valid.eq(there & (pieces.w_rdy | (beat != 0))),
            self.request.payload.address.eq(Cat(Const(0, 4), (piece.address[4:] + beat)[:28])),
            asked.w_data.eq(self.i.payload),
            asked.w_en.eq(self.i.valid),
            self.i.ready.eq(asked.w_rdy),
            asked.r_en.eq(beat_taken & (beat == last)),
            note.shift.eq(piece.address[:4]),
            note.last.eq(last),
            note.tag.eq(piece.tag),
            pieces.w_en.eq(beat_taken & (beat == 0)),
        ]
        with m.If(beat_taken):
            m.d.sync += beat.eq(Mux(beat == last, 0, beat + 1))
        self._collect(m, data.View(meta, pieces.r_data), pieces)
        return m

    def _collect(self, m, note, pieces):
        """Gather the beats of a piece, then shift it to its place."""
        beats = [Signal(8 * BEAT, name=f"beat{n}", reset_less=True) for n in range(_BEATS)]
        count, shift, tag = Signal(2), Signal(4), Signal(self.tag_bits)
        ends = named(m, count == note.last, "ends")
        room = named(m, ~self.o.valid | self.o.ready, "room")
        taken = named(m, self.response.valid & self.response.ready, "taken")
        m.d.comb += [
            self.response.ready.eq(pieces.r_rdy & room),
            pieces.r_en.eq(taken & ends),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(taken):
            m.d.sync += count.eq(Mux(ends, 0, count + 1))
            for number, register in enumerate(beats):
                with m.If(count == number):
                    m.d.sync += register.eq(self.response.payload)
            with m.If(ends):
                m.d.sync += [self.o.valid.eq(1), shift.eq(note.shift), tag.eq(note.tag)]
        window = Cat(beats)
        for bit in (3, 2):
            window = named(m, Mux(shift[bit], window >> (8 << bit), window), f"shifted{bit}")
        m.d.comb += [
            self.o.payload.data.eq(window),
            self.o.payload.byte.eq(window[:32].word_select(shift[:2], 8)),
            self.o.payload.tag.eq(tag),
        ]


class PieceWriter(wiring.Component):
    """Write pieces of 4 to 32 bytes at multiples of 4, or single bytes.

    Members
    -------
    i : In(stream)
        `address`; `bytes`, 1 or a multiple of 4; `data`, of a single byte four copies.
    idle : Out(1)
        All is taken by the memory's master.
    request
        A user's side of `MemoryMaster`.
    """

    def __init__(self):
        piece = data.StructLayout({"address": 32, "bytes": range(PIECE + 1), "data": 8 * PIECE})
        super().__init__(
            {
                "i": In(stream.Signature(piece)),
                "idle": Out(1),
                "request": Out(stream.Signature(REQUEST)),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        piece = self.i.payload
        window, mask = Signal(8 * BEAT * _BEATS, reset_less=True), Signal(BEAT * _BEATS)
        address, beats = Signal(28), Signal(_BEATS)
        shift = piece.address[:4]
        single = named(m, piece.bytes == 1, "single")
        words = Cat(single | (piece.bytes[2:] > n) for n in range(PIECE // 4))
        words = named(m, words & Mux(single, 1, -1), "words")
        wide, ones = piece.data, words
        for bit in (2, 3):
            wide = named(m, Mux(shift[bit], wide << (8 << bit), wide), f"wide{bit}")
            ones = named(m, Mux(shift[bit], ones << (1 << bit - 2), ones), f"ones{bit}")
        in_word = named(m, Mux(single, 1 << shift[:2], 15)[:4], "in_word")
        ones = Cat(in_word & one.replicate(4) for one in ones)
        m.d.comb += [
            self.i.ready.eq(~beats[0]),
            self.idle.eq(~beats[0]),
            self.request.valid.eq(beats[0]),
            self.request.payload.address.eq(Cat(Const(0, 4), address)),
            self.request.payload.write.eq(1),
            self.request.payload.data.eq(window),
            self.request.payload.mask.eq(mask),
        ]
        with m.If(self.i.valid & self.i.ready):
            some = Cat(ones[BEAT * n : BEAT * n + BEAT].any() for n in range(_BEATS))
            m.d.sync += [window.eq(wide), mask.eq(ones), beats.eq(some), address.eq(piece.address[4:])]
        with m.Elif(self.request.ready):
            m.d.sync += [window.eq(window >> 8 * BEAT), mask.eq(mask >> BEAT), beats.eq(beats >> 1)]
            m.d.sync += address.eq(address + 1)
        return m
