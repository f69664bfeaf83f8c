"""The epilogue: operands, values and the writer of blocks, which the matrix and the vector unit share."""

from amaranth.hdl import Module, Mux
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .block_dot import BLOCK_BITS
from .block_writer import BlockWriter, destination_layout
from .operands import WORD_VALUES, Operands, request_layout
from .pipeline import delayed
from .shared_memory import read_signature, write_signature
from .values import Plan, Values


def address_bits(block_bits: int, word_bits: int) -> int:
    """Bits of an address that may be a block's or a vector's, with those of both memories."""
    return max(block_bits, word_bits - 3)


def epilogue_signature(block_bits: int, word_bits: int) -> wiring.Signature:
    """What a unit tells the epilogue, as the unit sees it.

    `plan`, `bits` and `vector` are steady while an instruction runs; `request` and `destination` are those
    of `Operands` and `BlockWriter`, for one block of results after another. `granted`: what the unit says
    counts, and goes on to count until its instruction ends. `idle`: all that was told is written.
    """
    width = address_bits(block_bits, word_bits)
    return wiring.Signature(
        {
            "plan": Out(Plan()),
            "bits": Out(4),
            "vector": Out(1),
            "request": Out(stream.Signature(request_layout(width))),
            "destination": Out(stream.Signature(destination_layout(width))),
            "granted": In(1),
            "idle": In(1),
        }
    )


class Epilogue(wiring.Component):
    """What makes values of sums and operands, and writes them: for one unit at a time.

    Parameters
    ----------
    values : int
        Values a cycle: 1, 2 or 4.
    block_bits, word_bits : int
        Address bits of activation memory (blocks) and vector memory (words of four values).

    Members
    -------
    matrix, vector : In(epilogue_signature)
        The two units.
    sums : In(stream)
        Rows of sums, which the matrix unit hands out while it is granted.
    vector_runs : In(1)
        The vector unit has an instruction at work; it begins one only while the matrix unit has none. The
        matrix unit is granted all else.
    read_blocks, read_words, write_blocks, write_words : Out
        Ports of the memories; writes must be the most urgent ones.
    """

    def __init__(self, values: int, block_bits: int, word_bits: int):
        place = (block_bits, word_bits)
        width = address_bits(*place)
        self.operands, self.values = Operands(values, *place), Values(values)
        self.writer = BlockWriter(values, *place)
        self.rows, self.width = data.ArrayLayout(32, values), width
        super().__init__(
            {
                "matrix": In(epilogue_signature(*place)),
                "vector": In(epilogue_signature(*place)),
                "sums": In(stream.Signature(self.rows)),
                "vector_runs": In(1),
                "read_blocks": Out(read_signature(block_bits, BLOCK_BITS)),
                "read_words": Out(read_signature(word_bits, 32 * WORD_VALUES)),
                "write_blocks": Out(write_signature(block_bits, BLOCK_BITS)),
                "write_words": Out(write_signature(word_bits, 32 * WORD_VALUES)),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        operands, values, writer = self.operands, self.values, self.writer
        m.submodules.operands, m.submodules.values, m.submodules.writer = operands, values, writer
        for inner, outer in (
            (operands.blocks, self.read_blocks),
            (operands.words, self.read_words),
            (writer.blocks, self.write_blocks),
            (writer.words, self.write_words),
        ):
            connect(m, inner, flipped(outer))
        connect(m, operands.o, values.operands)
        connect(m, flipped(self.sums), values.sums)
        m.d.comb += [
            values.free.eq(writer.free),
            writer.taken.eq(values.taken),
            writer.i_valid.eq(values.o_valid),
            writer.i_values.eq(values.o_values),
        ]
        self._choose(m)
        return m

    def _choose(self, m):
        """Take from the unit that runs; the other one offers nothing."""
        matrix, vector, chosen = self.matrix, self.vector, delayed(m, self.vector_runs, 1)
        operands, values, writer = self.operands, self.values, self.writer
        m.d.comb += [
            matrix.granted.eq(~chosen & ~self.vector_runs),
            vector.granted.eq(chosen),
            values.plan.eq(Mux(chosen, vector.plan, matrix.plan)),
            writer.bits.eq(Mux(chosen, vector.bits, matrix.bits)),
            writer.vector.eq(Mux(chosen, vector.vector, matrix.vector)),
        ]
        for name, sink in (("request", operands.i), ("destination", writer.destination)):
            ours, theirs = getattr(matrix, name), getattr(vector, name)
            m.d.comb += [
                sink.valid.eq(ours.valid | theirs.valid),
                sink.payload.eq(Mux(chosen, theirs.payload, ours.payload)),
                ours.ready.eq(sink.ready),
                theirs.ready.eq(sink.ready),
            ]
        for unit in (matrix, vector):
            m.d.comb += unit.idle.eq(writer.idle)
