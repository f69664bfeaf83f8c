"""The end of every instruction that makes values: encode a block or keep float32, and write it."""

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..numerics import BLOCK_SIZE, EXPONENT_BIAS, EXPONENT_MAX, EXPONENT_MIN, FORMATS, encode
from .block_dot import BLOCK_BITS, MANTISSAS
from .operands import WORD_VALUES
from .pipeline import delayed, named, registered, shift_right_sticky
from .shared_memory import write_signature

_LOWEST, _HIGHEST = EXPONENT_BIAS + EXPONENT_MIN, EXPONENT_BIAS + EXPONENT_MAX
DESTINATIONS = 4
"""Blocks whose places may be told ahead."""


class BlockWriter(wiring.Component):
    """Take rows of 32 values, find the block's exponent, round the values to its format, and write it.

    Two blocks are in the making: one arrives while the other is encoded.

    Parameters
    ----------
    values : int
        Values of a row: 1, 2 or 4.
    block_bits, word_bits : int
        Address bits of activation and vector memory.

    Members
    -------
    bits : In(4)
        Bits of the format's mantissas, 4 to 8; steady.
    destination : In(stream)
        For each block: `vector`, keep float32 and write to vector memory; `address`; `channels`, 1 to 32:
        further values are +0.0.
    free : Out(1)
        A block may be begun; `taken` begins it.
    taken, i_valid, i_values : In
        Rows of the blocks that were begun, in order.
    idle : Out(1)
        Everything is written.
    blocks, words : Out(write_signature)
        Ports of both memories.
    """

    def __init__(self, values: int, block_bits: int, word_bits: int):
        self.values, self.rows = values, BLOCK_SIZE // values
        self.address_bits = max(block_bits, word_bits - 3)
        self.destination_layout = data.StructLayout(
            {"vector": 1, "address": self.address_bits, "channels": range(BLOCK_SIZE + 1)}
        )
        super().__init__(
            {
                "bits": In(4),
                "destination": In(stream.Signature(self.destination_layout)),
                "free": Out(1),
                "taken": In(1),
                "i_valid": In(1),
                "i_values": In(data.ArrayLayout(32, values)),
                "idle": Out(1),
                "blocks": Out(write_signature(block_bits, BLOCK_BITS)),
                "words": Out(write_signature(word_bits, 32 * WORD_VALUES)),
            }
        )

    def model(self, x: np.ndarray, bits: int) -> tuple[np.ndarray, int]:
        """Left-aligned mantissas int8 ``[32]`` and exponent byte of 32 float32."""
        mantissas, exponents = encode(x, FORMATS[f"bfp{bits}"])
        return mantissas[0] << 8 - bits, int(exponents[0])

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        layout = self.destination_layout
        m.submodules.places = places = fifo.SyncFIFO(width=layout.size, depth=DESTINATIONS)
        m.submodules.rows = rows = memory.Memory(shape=32 * self.values, depth=2 * self.rows, init=[])
        m.d.comb += [
            places.w_data.eq(self.destination.payload),
            places.w_en.eq(self.destination.valid),
            self.destination.ready.eq(places.w_rdy),
        ]
        full, exponents, kept = Signal(2), Array(Signal(8, name=f"e{i}") for i in range(2)), None
        kept = Array(Signal(layout, name=f"place{i}").as_value() for i in range(2))
        arrived = self._arrive(m, places, rows, full, exponents, kept)
        emptied, busy = self._leave(m, rows, full, exponents, kept)
        arriving, used = Signal(range(3)), Signal(range(3))
        m.d.sync += [
            arriving.eq(arriving + self.taken - arrived),
            used.eq(used + self.taken - emptied),
        ]
        m.d.comb += [
            self.free.eq((used < 2) & (places.level > arriving)),
            self.idle.eq((used == 0) & ~busy & (places.level == 0)),
        ]
        return m

    def _arrive(self, m, places, rows, full, exponents, kept):
        """Store rows and keep the largest exponent; returns the strobe of a block's last row, as it comes."""
        place = data.View(self.destination_layout, places.r_data)
        begun, row = Signal(range(self.rows)), Signal(range(self.rows))
        bank, largest = Signal(), Signal(8)
        arrived = named(m, self.i_valid & (begun == self.rows - 1), "arrived")
        m.d.comb += places.r_en.eq(arrived)
        with m.If(self.i_valid):
            m.d.sync += begun.eq(Mux(arrived, 0, begun + 1))
        # values that count, in registers; then the largest exponent
        values, exponent = [], largest
        for i in range(self.values):
            value = self.i_values[i]
            keeps = value[23:31].any() & ((begun * self.values + i) < place.channels)
            values += registered(m, True, value & keeps.replicate(32))
            field = values[-1][23:31]
            exponent = named(m, Mux(field > exponent, field, exponent), f"largest{i}")
        valid, last = Signal(), Signal()
        place = Signal(self.destination_layout, name="arriving_place")
        m.d.sync += [valid.eq(self.i_valid), last.eq(arrived), place.eq(places.r_data)]
        write = rows.write_port()
        m.d.comb += [
            write.addr.eq(Cat(row, bank) if self.rows > 1 else bank),
            write.data.eq(Cat(values)),
            write.en.eq(valid),
        ]
        with m.If(valid):
            m.d.sync += [row.eq(row + 1), largest.eq(exponent)]
        with m.If(last):
            m.d.sync += [row.eq(0), largest.eq(0), bank.eq(~bank)]
        whole, found, found_bank, found_place = registered(m, True, last, exponent, bank, place)
        bounded = Mux(found < _LOWEST, _LOWEST, Mux(found > _HIGHEST, _HIGHEST, found))
        with m.If(whole):
            m.d.sync += [
                full.bit_select(found_bank, 1).eq(1),
                exponents[found_bank].eq(bounded),
                kept[found_bank].eq(found_place),
            ]
        return arrived

    def _leave(self, m, rows, full, exponents, kept):
        """Encode the rows of a full bank and write them; returns the strobe of its end, and busy."""
        bank, row = Signal(), Signal(range(self.rows))
        stall = Signal()
        read = rows.read_port(domain="comb")
        m.d.comb += read.addr.eq(Cat(row, bank))
        go = named(m, full.bit_select(bank, 1) & ~stall, "leaves")
        ends = named(m, go & (row == self.rows - 1), "emptied")
        with m.If(go):
            m.d.sync += row.eq(row + 1)
        with m.If(ends):
            m.d.sync += [row.eq(0), bank.eq(~bank), full.bit_select(bank, 1).eq(0)]

        place = data.View(self.destination_layout, kept[bank])
        valid, per_word = full.bit_select(bank, 1), WORD_VALUES // self.values
        word_ends = (row % per_word == per_word - 1) if per_word > 1 else Const(1, 1)
        whole = valid & Mux(place.vector, word_ends, row == self.rows - 1)
        tag = Cat(valid, whole, row, place.vector, place.address, exponents[bank])
        codes, raw, tags = self._encode(m, read.data, exponents[bank], tag, stall)
        self._write(m, codes, raw, tags[-1], stall)
        busy = Cat(full, *(tag[0] for tag in tags), self.blocks.valid, self.words.valid).any()
        return ends, busy

    def _encode(self, m, row, exponent, tag, stall):
        """Codes of a row three cycles later, the row itself, and the tags of all stages."""

        def cut(*values):
            late = [Signal(len(v), name="encoding", reset_less=i > 0) for i, v in enumerate(values)]
            with m.If(~stall):
                m.d.sync += [r.eq(v) for r, v in zip(late, values, strict=True)]
            return late

        tag, row, exponent = cut(tag, row, exponent)
        tags = [tag]
        spare = delayed(m, (8 - self.bits)[:3], 1)
        stage = []
        for i in range(self.values):
            value = row[32 * i : 32 * i + 32]
            over = named(m, value[23:31] > exponent, "over")
            amount = named(m, (exponent - value[23:31])[:8] + spare, "amount")
            amount = Mux(amount > 8, 8, amount)[:4]
            stage += [Cat(value[:23], value[23:31].any()), amount, over, value[31]]
        tag, row, *stage = cut(tag, row, *stage)
        tags.append(tag)
        codes = []
        for i in range(self.values):
            significand, amount, over, sign = stage[4 * i : 4 * i + 4]
            x, sticky = shift_right_sticky(m, significand, amount, Const(0, 1), (8, 4, 2, 1))
            up = x[16] & (x[17] | sticky | x[:16].any())
            codes += [(x[17:] + up)[:8], over, sign]
        tag, row, *codes = cut(tag, row, *codes)
        tags.append(tag)
        limit = delayed(m, (Const(127, 7) >> spare)[:7], 1)
        found = []
        for i in range(self.values):
            code, over, sign = codes[3 * i : 3 * i + 3]
            clamped = named(m, Mux(over | (code > limit), limit, code)[:7], "clamped")
            aligned = named(m, (clamped << spare)[:8], "aligned")
            found.append(Mux(sign, -aligned, aligned)[:8])
        return Cat(found), row, tags

    def _write(self, m, codes, raw, tag, stall):
        """Collect codes to a block, or values to words of vector memory, and write them."""
        row_bits = (self.rows - 1).bit_length()
        ends, row, vector = tag[1], tag[2 : 2 + row_bits], tag[2 + row_bits]
        address = tag[3 + row_bits : 3 + row_bits + self.address_bits]
        exponent = tag[3 + row_bits + self.address_bits :]
        collected = Signal(MANTISSAS, reset_less=True)
        block = named(m, Cat(collected, codes)[len(codes) :], "block")
        word = named(m, Cat(collected, raw)[len(raw) :][MANTISSAS - 128 :], "word")
        per_word = WORD_VALUES // self.values
        # a word is taken in the cycle after the one that offers it: then the next row may end
        offered = Signal()  # whether one of them is
        waits = (self.blocks.valid & ~self.blocks.ready) | (self.words.valid & ~self.words.ready)
        m.d.sync += offered.eq((ends & ~stall) | waits)
        m.d.comb += stall.eq(ends & offered)
        with m.If(self.blocks.ready):
            m.d.sync += self.blocks.valid.eq(0)
        with m.If(self.words.ready):
            m.d.sync += self.words.valid.eq(0)
        # rows of a block come one after another: what is between blocks is pushed out before a word ends
        with m.If(~stall):
            m.d.sync += collected.eq(Mux(vector, Cat(Const(0, MANTISSAS - 128), word), block))
        with m.If(ends & ~stall):
            m.d.sync += [self.words.valid.eq(vector), self.blocks.valid.eq(~vector)]
        # nothing is on offer when a word ends, so the wide registers follow until then: no logic enables them
        with m.If(~self.words.valid):
            place = Cat(row[per_word.bit_length() - 1 :], address)
            m.d.sync += [self.words.address.eq(place), self.words.data.eq(word)]
        with m.If(~self.blocks.valid):
            m.d.sync += [self.blocks.address.eq(address), self.blocks.data.eq(Cat(block, exponent))]
