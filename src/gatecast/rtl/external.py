"""External memory: one master for all units, and reads and writes of bytes at any address."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from .pipeline import named

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

    Members
    -------
    <user>_request : In(stream), <user>_response : Out(stream)
        Beats: byte address, a multiple of 16; reads are answered in order.
    request : Out(stream), response : In(stream)
        The memory's side. What is offered stays until taken.
    """

    def __init__(self, users: tuple[str, ...]):
        self.users = users
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
                m.d.sync += [self.request.valid.eq(1), self.request.payload.eq(request.payload)]
                m.d.comb += [owners.w_data.eq(number), owners.w_en.eq(~request.payload.write)]
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
    """Read pieces of 1 to 32 bytes at any address; they come in order, at the lowest bytes of 256 bits.

    Parameters
    ----------
    tag_bits : int
        Bits that a piece carries along.
    granule : int
        Addresses are multiples of this, a power of 2.
    depth : int
        Pieces on their way.

    Members
    -------
    i : In(stream)
        Pieces: `address`, `bytes`, `tag`.
    o : Out(stream)
        `data`, bytes beyond the piece are anything; `tag`.
    request, response
        A user's side of `MemoryMaster`.
    """

    def __init__(self, tag_bits: int, granule: int = 1, depth: int = 16):
        self.tag_bits, self.granule, self.depth = tag_bits, granule, depth
        piece = data.StructLayout({"address": 32, "bytes": range(PIECE + 1), "tag": tag_bits})
        super().__init__(
            {
                "i": In(stream.Signature(piece)),
                "o": Out(stream.Signature(data.StructLayout({"data": 8 * PIECE, "tag": tag_bits}))),
                "request": Out(stream.Signature(REQUEST)),
                "response": In(stream.Signature(8 * BEAT)),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        meta = data.StructLayout({"shift": 4, "last": 2, "tag": self.tag_bits})
        m.submodules.pieces = pieces = fifo.SyncFIFO(width=meta.size, depth=self.depth)
        piece, beat = self.i.payload, Signal(2)
        last = named(m, (piece.address[:4] + piece.bytes - 1)[4:6], "last")
        note = data.View(meta, pieces.w_data)
        beat_taken = named(m, self.request.valid & self.request.ready, "beat_taken")
        m.d.comb += [
            self.request.valid.eq(self.i.valid & (pieces.w_rdy | (beat != 0))),
            self.request.payload.address.eq(Cat(Const(0, 4), (piece.address[4:] + beat)[:28])),
            self.i.ready.eq(beat_taken & (beat == last)),
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
        for bit in range(3, -1, -1):
            if 1 << bit >= self.granule:
                window = named(m, Mux(shift[bit], window >> (8 << bit), window), f"shifted{bit}")
        m.d.comb += [self.o.payload.data.eq(window), self.o.payload.tag.eq(tag)]


class PieceWriter(wiring.Component):
    """Write pieces of 1 to 32 bytes at any address.

    Members
    -------
    i : In(stream)
        `address`, `bytes`, `data`.
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
        address = Signal(28)
        shift = piece.address[:4]
        wide, bytes_ = Cat(piece.data, Const(0, 8 * BEAT)), (Const(1, PIECE + 1) << piece.bytes) - 1
        ones = named(m, Cat(bytes_[:PIECE], Const(0, BEAT)), "ones")
        for bit in range(4):
            wide = named(m, Mux(shift[bit], wide << (8 << bit), wide)[: len(window)], f"wide{bit}")
            ones = named(m, Mux(shift[bit], ones << (1 << bit), ones)[: len(mask)], f"ones{bit}")
        m.d.comb += [
            self.i.ready.eq(~mask.any()),
            self.idle.eq(~mask.any()),
            self.request.valid.eq(mask.any()),
            self.request.payload.address.eq(Cat(Const(0, 4), address)),
            self.request.payload.write.eq(1),
            self.request.payload.data.eq(window),
            self.request.payload.mask.eq(mask),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [window.eq(wide), mask.eq(ones), address.eq(piece.address[4:])]
        with m.Elif(self.request.ready):
            m.d.sync += [window.eq(window >> 8 * BEAT), mask.eq(mask >> BEAT), address.eq(address + 1)]
        return m
