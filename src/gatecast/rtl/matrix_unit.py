"""The matrix unit: `convolve`, up to what it tells the epilogue. See docs/spec/isa.md §6."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..isa import Architecture
from ..numerics import BLOCK_SIZE
from .block_dot import BLOCK_BITS
from .epilogue import address_bits, epilogue_signature
from .float_accumulator import from_float32
from .instructions import as_kind, unit_words
from .lane import LaneDesign
from .matrix_vector import MatrixVector
from .operands import WORD_VALUES
from .pipeline import delayed, delayed_data, less_one, named
from .requests import InTurn, Request
from .shared_memory import read_signature
from .sum_reader import SumReader
from .tile_steps import TileSteps
from .unit_model import run_instruction
from .values import After, Operation
from .vector_unit import FLOAT32_CODE
from .walker import Products, Walk, Walker


class MatrixUnit(wiring.Component):
    """Lanes, the steps that feed them, and what tells the epilogue to take their sums.

    Lanes begin with the instruction, and their sums wait until the epilogue is granted.

    Parameters
    ----------
    architecture : Architecture
        Sizes.
    block_bits, word_bits : int
        Address bits of activation memory (blocks) and vector memory (words of four values).
    design : LaneDesign
        How a lane is made.

    Members
    -------
    instruction, start, done
        As those of `VectorUnit`.
    written : In
        Weights; see `MatrixVector`.
    read_steps : Out
        Port of activation memory, for the lanes.
    read_partials : Out
        Port of vector memory, to resume sums.
    epilogue : Out(epilogue_signature)
    sums : Out(stream)
        Rows of sums for the epilogue.
    product : Out(1)
        The lanes take a block.
    """

    opcodes = ("convolve",)
    model = staticmethod(run_instruction)

    def __init__(self, architecture: Architecture, block_bits: int, word_bits: int, design: LaneDesign):
        sizes = architecture
        self.values, self.block_bits, self.word_bits = sizes.epilogue_values, block_bits, word_bits
        self.ring = 2 << (sizes.max_interleave - 1).bit_length()
        self.array = MatrixVector(sizes.lanes, sizes.weight_panels, self.ring, design)
        self.steps = TileSteps(
            self.array, sizes.max_interleave, block_bits, word_bits - 3, sizes.weight_panels, self.ring
        )
        super().__init__(
            {
                "instruction": In(32 * unit_words("matrix")),
                "start": In(1),
                "done": Out(1),
                "written": In(self.array.written.shape()),
                "read_steps": Out(read_signature(block_bits, BLOCK_BITS)),
                "read_partials": Out(read_signature(word_bits, 32 * WORD_VALUES)),
                "epilogue": Out(epilogue_signature(block_bits, word_bits)),
                "sums": Out(stream.Signature(data.ArrayLayout(32, self.values))),
                "product": Out(1),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        i = as_kind(self.instruction, "convolve")
        m.submodules.array, m.submodules.steps = array, steps = self.array, self.steps
        m.submodules.sums = sums = SumReader(array.lanes, array.passes, self.ring, self.values)
        m.d.comb += [
            steps.instruction.eq(self.instruction),
            steps.start.eq(self.start),
            array.step.eq(steps.step),
            array.activation.eq(self.read_steps.data),
            array.written.eq(self.written),
            self.product.eq(delayed(m, steps.step.valid, 1)),
            self.read_steps.valid.eq(steps.read_valid),
            self.read_steps.address.eq(steps.read_address),
            steps.read_ready.eq(self.read_steps.ready),
            array.read_result.eq(sums.address),
            sums.word.eq(array.results),
            sums.finished.eq(array.finished),
            steps.freed.eq(sums.freed),
        ]
        self._resume(m, array, steps)
        working = Signal()  # the epilogue is granted, and has this instruction's plan
        self._plan(m, i)
        m.d.comb += [
            self.sums.payload.eq(sums.o.payload),
            self.sums.valid.eq(sums.o.valid & working),
            sums.o.ready.eq(self.sums.ready & working),
        ]
        epilogue_done = self._walk(m, i, working)
        m.d.comb += self.done.eq(steps.done & epilogue_done)
        return m

    def _resume(self, m, array, steps):
        """Set sums from vector memory before a pass, when the lanes are empty."""
        quiet, words = Signal(range(array.drain + 1)), array.lanes // WORD_VALUES
        asked, got = Signal(range(words + 1)), Signal(range(max(2, words)))
        with m.If(steps.step.valid):
            m.d.sync += quiet.eq(array.drain)
        with m.Elif(quiet != 0):
            m.d.sync += quiet.eq(quiet - 1)
        port = self.read_partials
        word = named(m, steps.resume_pass * words + asked, "word")[:3]
        m.d.comb += [
            steps.quiet.eq(quiet == 0),
            port.valid.eq(steps.resume_valid & (asked != words)),
            port.address.eq(Cat(word, steps.resume_vector)),
            steps.resume_ready.eq(port.answered & (got == words - 1)),
        ]
        # lanes read a sum long after its first step begins: there is time for two registers
        enable, slot, quarter = (delayed(m, value, 2) for value in (port.answered, steps.resume_slot, got))
        m.d.comb += [
            array.preset.enable.eq(enable),
            array.preset.slot.eq(slot),
            array.preset.quarter.eq(quarter),
        ]
        found = delayed_data(m, port.data, 1)
        for n in range(WORD_VALUES):
            sum_ = delayed_data(m, from_float32(found[32 * n : 32 * n + 32]), 1)
            m.d.comb += array.preset.sums[n].eq(sum_)
        with m.If(port.valid & port.ready):
            m.d.sync += asked.eq(asked + 1)
        with m.If(port.answered):
            m.d.sync += got.eq(got + 1)
        with m.If(steps.resume_ready):
            m.d.sync += [asked.eq(0), got.eq(0)]

    def _plan(self, m, i):
        """What the epilogue does with each block."""
        plan, epilogue = self.epilogue.plan, self.epilogue
        m.d.comb += [
            plan.sums.eq(1),
            plan.gather.eq(Operation.ADD),
            plan.bias.eq(i.has_bias),
            plan.scale.eq(i.has_scale),
            plan.residual.eq(i.residual_format != 0),
            plan.after.eq(Mux(i.suspend, After.NOTHING, i.activation[:2])),
            plan.low.eq(i.low),
            plan.high.eq(i.high),
            epilogue.bits.eq(i.out_format + 2),
            epilogue.vector.eq(i.suspend | (i.out_format == FLOAT32_CODE)),
        ]

    def _walk(self, m, i, working):
        """Tell where each block goes, and ask for what its epilogue needs; returns whether all is written."""
        epilogue, width = self.epilogue, address_bits(self.block_bits, self.word_bits)
        m.submodules.pixels = pixels = Walker({"out": width, "residual": width})
        m.submodules.products = products = Products(("row",), width)
        block = Signal(16)
        last_block = delayed(m, block == less_one(m, i.out_blocks), 1)
        partials = (i.partials, products.row, i.out_blocks)
        out = (
            Mux(i.suspend, partial, getattr(i, f"out_{part}"))
            for partial, part in zip(partials, ("address", "row", "pixel"), strict=True)
        )
        m.d.comb += [
            *products.set_factors("row", i.out_columns, i.out_blocks),
            pixels.rows.eq(i.out_rows),
            pixels.columns.eq(i.out_columns),
            *pixels.set_track("out", *out),
            *pixels.set_track("residual", i.residual_address, i.residual_row, i.residual_pixel),
        ]
        requests = [
            Request(i.has_bias, 1, i.bias),
            Request(i.has_scale, 1, i.scale),
            Request(i.has_scale, 1, i.shift),
            Request(i.residual_format != 0, i.residual_format == FLOAT32_CODE, pixels.residual),
        ]
        walk = Walk(pixels, products, block, last_block)
        ready = (epilogue.request.ready, epilogue.destination.ready)
        items = InTurn(m, requests, block, width, walk.run, *ready)
        place = epilogue.destination.payload
        m.d.comb += [
            epilogue.request.valid.eq(items.request_valid),
            epilogue.request.payload.eq(items.request),
            epilogue.destination.valid.eq(items.destination_valid),
            place.address.eq(pixels.out + block),
            place.channels.eq(Mux(last_block & ~i.suspend, i.last_channels, BLOCK_SIZE)),
        ]
        return self._run(m, walk, items.done, working)

    def _run(self, m, walk, next_pixel, working):
        """All pixels of a block, then the next block; returns whether the last one is written."""
        done = Signal(init=1)
        with m.FSM(name="epilogue"):
            with m.State("IDLE"):
                m.d.sync += walk.block.eq(0)
                with m.If(self.start):
                    m.d.sync += done.eq(0)
                    m.next = "GRANT"
            with m.State("GRANT"), m.If(self.epilogue.granted):
                m.d.comb += walk.products.start.eq(1)
                m.next = "PRODUCTS"
            with m.State("PRODUCTS"):
                m.d.comb += walk.pixels.restart.eq(1)
                with m.If(walk.products.done):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [walk.run.eq(1), working.eq(1)]
                with m.If(next_pixel):
                    m.d.comb += walk.pixels.advance.eq(1)
                    with m.If(walk.pixels.last):
                        m.d.comb += walk.pixels.restart.eq(1)
                        m.d.sync += walk.block.eq(walk.block + 1)
                        with m.If(walk.last_block):
                            m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += working.eq(1)
                with m.If(self.epilogue.idle):
                    m.d.sync += done.eq(1)
                    m.next = "IDLE"
        return done
