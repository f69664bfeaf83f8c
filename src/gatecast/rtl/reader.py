"""Reads of bytes at any address in external memory, for several units, and what they hold, unpacked."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from .external import BEAT, REQUEST
from .packing import BITS, FIRST_CODE, RAW, half_bytes, unpacked
from .pipeline import QUEUE, named

PIECE_BITS = 8 * BEAT
"""Bits of a piece, unpacked: 16 mantissas, a byte each, or 16 bytes as they are."""


def piece_layout(tag_bits: int) -> data.StructLayout:
    """What a unit asks for.

    Half a block of format `code`; or `raw`, 16 bytes as they are; or `single`, a byte, whose address may be
    odd. `follows`: it begins where the piece before it ended, which was the same unit's; `more`: the next one
    of this unit follows it.
    """
    return data.StructLayout(
        {"address": 32, "code": 3, "raw": 1, "single": 1, "follows": 1, "more": 1, "tag": tag_bits}
    )


def found_layout(tag_bits: int) -> data.StructLayout:
    """What a unit gets: a piece, the one before it, and its first byte."""
    return data.StructLayout({"before": PIECE_BITS, "piece": PIECE_BITS, "byte": 8, "tag": tag_bits})


class Reader(wiring.Component):
    """Read pieces for several units, each of which gets its own in order.

    Parameters
    ----------
    users : mapping of str to int
        Bits of each user's tag; the first user that asks is served, the most urgent one first.
    most_bits : int
        Widest format of a block.
    depth : int
        Pieces on their way.

    Members
    -------
    <user>_ask : In(stream), <user>_found : Out(stream)
        Payloads `piece_layout` and `found_layout`.
    request, response
        A user's side of `MemoryMaster`. A beat in which one piece ends and the next begins, which follows it,
        is read once.
    """

    def __init__(self, users: Mapping[str, int], most_bits: int = 8, depth: int = QUEUE):
        self.users, self.most_bits, self.depth = dict(users), most_bits, depth
        self.tag_bits = max(users.values())
        members = {"request": Out(stream.Signature(REQUEST)), "response": In(stream.Signature(8 * BEAT))}
        for name, bits in self.users.items():
            members[f"{name}_ask"] = In(stream.Signature(piece_layout(bits)))
            members[f"{name}_found"] = Out(stream.Signature(found_layout(bits)))
        super().__init__(members)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        user_bits = max(1, (len(self.users) - 1).bit_length())
        note = data.StructLayout(
            {"start": 4, "two": 1, "code": 3, "beats": 2, "user": user_bits, "tag": self.tag_bits}
        )
        place = data.StructLayout({"beat": 28, "skip": 1, "note": note})
        m.submodules.asked = asked = fifo.SyncFIFO(width=place.size, depth=QUEUE)
        m.submodules.pieces = pieces = fifo.SyncFIFO(width=note.size, depth=self.depth)
        self._choose(m, data.View(place, asked.w_data), asked)
        self._request(m, data.View(place, asked.r_data), asked, pieces)
        self._collect(m, data.View(note, pieces.r_data), pieces)
        return m

    def _choose(self, m, place, asked):
        """Take a piece of the first user that asks, or of the one whose last piece has more."""
        locked, owner = Signal(), Signal(len(self.users))
        free = named(m, ~locked, "free")
        for number, name in enumerate(self.users):
            ask = getattr(self, f"{name}_ask")
            piece = ask.payload
            turn = free | (locked & owner[number])
            chosen = named(m, ask.valid & turn, f"{name}_chosen")
            m.d.comb += ask.ready.eq(asked.w_rdy & turn)
            free = named(m, free & ~ask.valid, f"after_{name}")
            with m.If(chosen):
                size = Mux(piece.single, 1, Mux(piece.raw, BEAT, half_bytes(piece.code)))
                end = named(m, (piece.address[:4] + size - 1)[:5], f"{name}_end")
                skip = named(m, piece.follows & (piece.address[:4] != 0), f"{name}_skip")
                m.d.comb += [
                    place.beat.eq(piece.address[4:]),
                    place.skip.eq(skip),
                    place.note.start.eq(piece.address[:4]),
                    place.note.two.eq(end[4]),
                    place.note.beats.eq(~skip + end[4]),
                    place.note.code.eq(Mux(piece.raw | piece.single, RAW, piece.code)),
                    place.note.user.eq(number),
                    place.note.tag.eq(piece.tag),
                    asked.w_en.eq(1),
                ]
                with m.If(asked.w_rdy):
                    m.d.sync += [locked.eq(piece.more), owner.eq(1 << number)]

    def _request(self, m, place, asked, pieces):
        """Ask for the beats of each piece that are not there yet."""
        second = Signal()
        note, none = place.note, named(m, place.note.beats == 0, "no_beats")
        at_second = named(m, place.skip | second, "at_second")
        taken = named(m, self.request.valid & self.request.ready, "beat_taken")
        noted = named(m, Mux(none, asked.r_rdy & pieces.w_rdy, taken & ~second), "noted")
        m.d.comb += [
            self.request.valid.eq(asked.r_rdy & ~none & (pieces.w_rdy | second)),
            self.request.payload.address.eq(Cat(Const(0, 4), (place.beat + at_second)[:28])),
            pieces.w_data.eq(note),
            pieces.w_en.eq(noted),
            asked.r_en.eq(Mux(none, noted, taken & (at_second | ~note.two))),
        ]
        with m.If(taken):
            m.d.sync += second.eq(~at_second & note.two)

    def _collect(self, m, note, pieces):
        """Gather the beats of a piece, turn them until it begins at byte 0, unpack it."""
        beats = [Signal(8 * BEAT, name=f"beat{n}", reset_less=True) for n in range(2)]
        got, whole, turned = Signal(), Signal(), Signal()
        gathered, at_turned = Signal(note.shape()), Signal(note.shape())
        users = [getattr(self, f"{name}_found") for name in self.users]
        ready = Cat(user.ready for user in users)
        valid, owner = Signal(), Signal(len(self.users))
        leaves = named(m, ~valid | (ready & owner).any(), "leaves")
        turns = named(m, ~turned | leaves, "turns")
        moves = named(m, ~whole | turns, "moves")
        left = named(m, note.beats - got, "beats_left")[:2]
        taken = named(m, self.response.valid & self.response.ready, "taken")
        ends = named(m, Mux(left == 0, pieces.r_rdy & moves, taken & (left == 1)), "piece_ends")
        m.d.comb += [self.response.ready.eq(pieces.r_rdy & (left != 0) & moves), pieces.r_en.eq(ends)]
        with m.If(moves):
            m.d.sync += [whole.eq(ends), gathered.eq(note)]
        with m.If(taken):
            m.d.sync += [got.eq(~ends), beats[0].eq(beats[1]), beats[1].eq(self.response.payload)]
        with m.If(turns):
            m.d.sync += [turned.eq(whole), at_turned.eq(gathered)]
        with m.If(leaves):
            m.d.sync += [valid.eq(turned), owner.eq(1 << at_turned.user)]
        self._unpack(m, beats, gathered, at_turned, turns, leaves & turned, users)
        for number, user in enumerate(users):
            m.d.comb += user.valid.eq(valid & owner[number])

    def _unpack(self, m, beats, gathered, at_turned, turns, leaves, users):
        """The circuits between the registers of a piece: beats, turned, unpacked."""
        turned, formats = Signal(8 * BEAT, reset_less=True), Signal(len(BITS), reset_less=True)
        before, piece = Signal(PIECE_BITS, reset_less=True), Signal(PIECE_BITS, reset_less=True)
        odd, tag = Signal(), Signal(self.tag_bits)
        with m.If(turns):
            m.d.sync += [
                turned.eq(_turned(m, beats, gathered)),
                formats.eq(1 << (gathered.code - FIRST_CODE)[:3]),
            ]
        with m.If(leaves):
            m.d.sync += [
                before.eq(piece),
                piece.eq(unpacked(turned, formats, self.most_bits)),
                odd.eq(at_turned.start[0]),
                tag.eq(at_turned.tag),
            ]
        for user in users:
            m.d.comb += [
                user.payload.before.eq(before),
                user.payload.piece.eq(piece),
                user.payload.byte.eq(Mux(odd, piece[8:16], piece[:8])),
                user.payload.tag.eq(tag),
            ]


def _turned(m: Module, beats: list[Value], note: data.View) -> Value:
    """16 bytes from the even byte of `note.start` on; those before it in the last beat come behind."""
    joined = []
    for i in range(BEAT // 2):
        first = named(m, note.two & (note.start[1:] <= i), f"first{i}")
        joined.append(Mux(first, beats[0].word_select(i, 16), beats[1].word_select(i, 16)))
    line = named(m, Cat(joined), "joined")
    for bit in (3, 2, 1):
        line = named(m, Mux(note.start[bit], line.rotate_right(8 << bit), line), f"turned{bit}")
    return line
