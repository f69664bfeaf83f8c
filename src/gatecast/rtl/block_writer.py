"""The end of every instruction that makes values: encode a block or keep float32, and write it."""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..numerics import BLOCK_SIZE, EXPONENT_BIAS, EXPONENT_MAX, EXPONENT_MIN, FORMATS, encode
from .block_dot import BLOCK_BITS, MANTISSAS
from .operands import VECTOR_WORDS, WORD_VALUES
from .pipeline import delayed, named, registered, shift_right_sticky
from .shared_memory import write_signature

_LOWEST, _HIGHEST = EXPONENT_BIAS + EXPONENT_MIN, EXPONENT_BIAS + EXPONENT_MAX
DESTINATIONS = 4
"""Blocks whose places may be told ahead."""

_KEPT = 8  # places: those told ahead, and of up to three blocks in the making


def destination_layout(address_bits: int) -> data.StructLayout:
    """Where a block goes, and how many of its values count."""
    return data.StructLayout({"address": address_bits, "channels": range(BLOCK_SIZE + 1)})


class BlockWriter(wiring.Component):
    """Take rows of 32 values, find the block's exponent, round the values to its format, and write it.

    A block is encoded, a row a cycle, while the next one arrives in its place. Nothing stops that, so the
    memories must take its writes at once.

    Parameters
    ----------
    values : int
        Values of a row: 1, 2 or 4.
    block_bits, word_bits : int
        Address bits of activation and vector memory.

    Members
    -------
    bits : In(4)
        Bits of the format's mantissas, 4 to 8; steady while there are blocks.
    vector : In(1)
        Keep float32 and write to vector memory; steady alike.
    destination : In(stream)
        For each block: `address`; `channels`, 1 to 32: further values are +0.0.
    free : Out(1)
        A block may be begun; `taken` begins it.
    taken, i_valid, i_values : In
        Rows of the blocks that were begun, in order.
    idle : Out(1)
        Everything is written.
    blocks, words : Out(write_signature)
        Ports of both memories, which must be ready at all times: their most urgent users.
    """

    def __init__(self, values: int, block_bits: int, word_bits: int):
        self.values, self.rows = values, BLOCK_SIZE // values
        self.address_bits = max(block_bits, word_bits - 3)
        super().__init__(
            {
                "bits": In(4),
                "vector": In(1),
                "destination": In(stream.Signature(destination_layout(self.address_bits))),
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
        m.submodules.rows = rows = memory.Memory(shape=32 * self.values, depth=self.rows, init=[])
        arrived, emptied = Signal(), Signal()
        channels, address = self._places(m, arrived, emptied)
        whole, exponent = self._arrive(m, channels, rows, arrived)
        row, valid = self._leave(m, rows, whole, emptied)
        codes, coded = self._encode(m, row, exponent, valid)
        writing = self._write(m, codes, coded, row, valid, address, exponent)
        told = named(m, self.destination.valid & self.destination.ready, "told")
        ahead, used = Signal(range(DESTINATIONS + 1)), Signal(range(4))
        m.d.sync += [ahead.eq(ahead + told - self.taken), used.eq(used + self.taken - emptied)]
        m.d.comb += [
            self.destination.ready.eq(ahead != DESTINATIONS),
            self.free.eq(ahead != 0),
            self.idle.eq((used == 0) & (ahead == 0) & ~writing),
        ]
        return m

    def _places(self, m, arrived, emptied):
        """Keep what was told; returns the channels of the block that arrives, the address of that leaving."""
        destination, found = self.destination, []
        told = destination.valid & destination.ready
        write_at = Signal(range(_KEPT))
        with m.If(told):
            m.d.sync += write_at.eq(write_at + 1)
        for name, moves in (("channels", arrived), ("address", emptied)):
            field = getattr(destination.payload, name)
            m.submodules[name] = kept = memory.Memory(shape=len(field), depth=_KEPT, init=[])
            write, read, at = kept.write_port(), kept.read_port(domain="comb"), Signal(range(_KEPT))
            m.d.comb += [
                write.addr.eq(write_at),
                write.data.eq(field),
                write.en.eq(told),
                read.addr.eq(at),
            ]
            with m.If(moves):
                m.d.sync += at.eq(at + 1)
            found.append(read.data)
        return found

    def _arrive(self, m, channels, rows, arrived):
        """Store rows and keep the largest exponent; `arrived` is the strobe of a block's last row.

        Returns the strobe of a block that is whole, and its exponent, two cycles later.
        """
        begun, largest = Signal(range(self.rows)), Signal(8)
        m.d.comb += arrived.eq(self.i_valid & (begun == self.rows - 1))
        with m.If(self.i_valid):
            m.d.sync += begun.eq(begun + 1)
        # values that count, in registers; then the largest exponent
        values, exponent = [], largest
        for i in range(self.values):
            value = self.i_values[i]
            keeps = value[23:31].any() & ((begun * self.values + i) < channels)
            values += registered(m, True, Mux(keeps, value, 0))
            field = values[-1][23:31]
            exponent = named(m, Mux(field > exponent, field, exponent), f"largest{i}")
        valid, whole, found = Signal(), Signal(), Signal(8)
        m.d.sync += [valid.eq(self.i_valid), whole.eq(arrived)]
        (row,) = registered(m, True, begun)
        write = rows.write_port()
        m.d.comb += [write.addr.eq(row), write.data.eq(Cat(values)), write.en.eq(valid)]
        with m.If(valid):
            m.d.sync += largest.eq(exponent)
        with m.If(whole):
            m.d.sync += [largest.eq(0), found.eq(exponent)]
        bounded = Mux(found < _LOWEST, _LOWEST, Mux(found > _HIGHEST, _HIGHEST, found))
        return whole, delayed(m, bounded, 1)

    def _leave(self, m, rows, whole, emptied):
        """Read the rows of a whole block, one a cycle: a row, and whether there is one.

        Rows of the next block may come as soon: none is stored before the old one in its place is read.
        """
        go, row = Signal(), Signal(range(self.rows))
        read = rows.read_port(domain="comb")
        m.d.comb += [read.addr.eq(row), emptied.eq(go & (row == self.rows - 1))]
        with m.If(go):
            m.d.sync += row.eq(row + 1)
        with m.If(whole):
            m.d.sync += go.eq(1)
        with m.Elif(emptied):
            m.d.sync += go.eq(0)
        return *registered(m, True, read.data), delayed(m, go, 1)

    def _encode(self, m, row, exponent, valid):
        """Codes of a row, two cycles later, and whether there are any."""
        spare = delayed(m, (8 - self.bits)[:3], 1)
        stage = []
        for i in range(self.values):
            value = row[32 * i : 32 * i + 32]
            difference = named(m, exponent - value[23:31], "difference")  # 9 bits, the last one its sign
            amount = named(m, difference[:8] + spare, "amount")
            amount = Mux(amount > 8, 8, amount)[:4]
            stage += [Cat(value[:23], value[23:31].any()), amount, difference[8], value[31]]
        stage = registered(m, True, *stage)
        codes = []
        for i in range(self.values):
            significand, amount, over, sign = stage[4 * i : 4 * i + 4]
            x, sticky = shift_right_sticky(m, significand, amount, Const(0, 1), (8, 4, 2, 1))
            up = x[16] & (x[17] | sticky | x[:16].any())
            codes += [(x[17:] + up)[:8], over, sign]
        codes = registered(m, True, *codes)
        limit = delayed(m, (Const(127, 7) >> spare)[:7], 1)
        found = []
        for i in range(self.values):
            code, over, sign = codes[3 * i : 3 * i + 3]
            clamped = named(m, Mux(over | (code > limit), limit, code)[:7], "clamped")
            aligned = named(m, (clamped << spare)[:8], "aligned")
            found.append(Mux(sign, -aligned, aligned)[:8])
        return Cat(found), delayed(m, valid, 2)

    def _write(self, m, codes, coded, raw, valid, address, exponent):
        """Collect codes to a block, or values to words of vector memory, and write them at once.

        A row of values is spread over the quarters of the register, a part for each, as long as a row of
        codes: so the same shift serves both. Returns whether there is still something to write.
        """
        part, rows, number = len(codes), Signal(range(self.rows)), Signal(range(VECTOR_WORDS))
        vector, per_word = self.vector, WORD_VALUES // self.values
        collected = Signal(MANTISSAS, reset_less=True)
        comes = named(m, Mux(vector, valid, coded), "comes")
        word_ends = (rows % per_word == per_word - 1) if per_word > 1 else Const(1, 1)
        quarters, shifted = MANTISSAS // 4, []
        for n in range(4):
            end = codes if n == 3 else collected[quarters * (n + 1) :][:part]
            spread = raw[part * n : part * n + part]
            shifted += [collected[quarters * n + part : quarters * n + quarters], Mux(vector, spread, end)]
        m.d.sync += [
            collected.eq(Cat(shifted)),
            self.words.valid.eq(comes & vector & word_ends),
            self.blocks.valid.eq(comes & ~vector & (rows == self.rows - 1)),
            number.eq(rows >> (per_word.bit_length() - 1)),
        ]
        kept_address, kept_exponent = Signal(len(address)), Signal(8)
        with m.If(comes):
            m.d.sync += rows.eq(rows + 1)
            with m.If(rows == 0):  # this block still leaves; when its last row comes, the next one may
                m.d.sync += [kept_address.eq(address), kept_exponent.eq(exponent)]
        word = [
            collected[quarters * n + quarters - part * (per_word - row) :][:part]
            for row in range(per_word)
            for n in range(4)
        ]
        m.d.comb += [
            self.blocks.address.eq(kept_address),
            self.blocks.data.eq(Cat(collected, kept_exponent)),
            self.words.address.eq(Cat(number, kept_address)),
            self.words.data.eq(Cat(word)),
        ]
        return Cat(valid, delayed(m, valid, 1), coded, self.blocks.valid, self.words.valid).any()
