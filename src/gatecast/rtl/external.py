"""External memory: one master for all units, and writes of bytes at any address."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from .pipeline import named

BEAT = 16
"""Bytes of a beat."""

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


class PieceWriter(wiring.Component):
    """Write pieces of up to 16 bytes, an even number at an even address, or single bytes anywhere.

    Members
    -------
    i : In(stream)
        `address`; `bytes`, 1 or even; `data`, of a single byte two copies.
    idle : Out(1)
        All is taken by the memory's master.
    request
        A user's side of `MemoryMaster`.
    """

    def __init__(self):
        piece = data.StructLayout({"address": 32, "bytes": range(BEAT + 1), "data": 8 * BEAT})
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
        piece, beats = self.i.payload, Signal(2)
        address, line = Signal(28), Signal(8 * BEAT, reset_less=True)
        masks = Signal(2 * BEAT, reset_less=True)
        wide = piece.data
        for bit in (1, 2, 3):  # both beats hold the bytes turned, each lets its own be written
            turned = Mux(piece.address[bit], wide.rotate_left(8 << bit), wide)
            wide = named(m, turned, f"turned{bit}")
        found = named(m, self._masks(m, piece), "found")
        room = named(m, ~beats[0] | (self.request.ready & ~beats[1]), "room")
        m.d.comb += [
            self.i.ready.eq(room),
            self.idle.eq(~beats[0]),
            self.request.valid.eq(beats[0]),
            self.request.payload.address.eq(Cat(Const(0, 4), address)),
            self.request.payload.write.eq(1),
            self.request.payload.data.eq(line),
            self.request.payload.mask.eq(masks[:BEAT]),
        ]
        with m.If(room):
            m.d.sync += [line.eq(wide), masks.eq(found), address.eq(piece.address[4:])]
            m.d.sync += beats.eq(Mux(self.i.valid, Cat(1, found[BEAT:].any()), 0))
        with m.Elif(self.request.ready):
            m.d.sync += [masks.eq(masks >> BEAT), beats.eq(beats >> 1), address.eq(address + 1)]
        return m

    def _masks(self, m, piece):
        """Bytes of two beats that a piece writes."""
        single = named(m, piece.bytes == 1, "single")
        pairs = named(m, Cat(1, *(piece.bytes[1:] > n for n in range(1, BEAT // 2))), "pairs")
        for bit in (1, 2, 3):
            size = len(pairs) + (1 << bit - 1)
            pairs = named(m, Mux(piece.address[bit], pairs << (1 << bit - 1), pairs)[:size], f"pairs{bit}")
        in_pair = named(m, Mux(single, 1 << piece.address[0], 3)[:2], "in_pair")
        return Cat(in_pair & pair.replicate(2) for pair in pairs)
