"""The vector unit: `pool` and `map`. See docs/spec/isa.md §6."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..isa import Activation, MapOperation, PoolOperation
from ..numerics import BLOCK_SIZE
from .epilogue import address_bits, epilogue_signature
from .instructions import BY_NAME, as_kind, unit_words
from .pipeline import delayed, less_one, named
from .requests import InTurn, Request
from .unit_model import run_instruction
from .values import After, Operation, Plan
from .walker import Products, Walk, Walker

FLOAT32_CODE = 1
_FIRST, _LAST = 1, 2


class VectorUnit(wiring.Component):
    """Runs one instruction after another, all of it by the epilogue; each ends when all is written.

    Parameters
    ----------
    block_bits, word_bits : int
        Address bits of activation memory (blocks) and vector memory (words of four values).

    Members
    -------
    instruction : In
        Words of the instruction, steady from `start` to `done`.
    start : In(1), done : Out(1)
        Done is high while nothing runs. The epilogue is granted from a few cycles after the start.
    epilogue : Out(epilogue_signature)
    """

    opcodes = ("pool", "map")
    model = staticmethod(run_instruction)

    def __init__(self, block_bits: int, word_bits: int):
        self.address_bits = address_bits(block_bits, word_bits)
        super().__init__(
            {
                "instruction": In(32 * unit_words("vector")),
                "start": In(1),
                "done": Out(1, init=1),
                "epilogue": Out(epilogue_signature(block_bits, word_bits)),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m, epilogue = Module(), self.epilogue
        is_pool = delayed(m, self.instruction[:8] == BY_NAME["pool"].opcode, 1)
        pool, map_ = as_kind(self.instruction, "pool"), as_kind(self.instruction, "map")
        out_format = Mux(is_pool, pool.out_format, map_.out_format)
        m.d.comb += [
            epilogue.plan.eq(Mux(is_pool, _pool_plan(m, pool), _map_plan(m, map_))),
            epilogue.plan.high.eq(map_.high),  # which no pool looks at
            epilogue.bits.eq(out_format + 2),
            epilogue.vector.eq(out_format == FLOAT32_CODE),
        ]
        self._walk(m, is_pool, pool, map_)
        return m

    def _walk(self, m, is_pool, pool, map_):
        """Go over the results; ask for the operands of each block, and tell where it goes."""
        width, request, destination = self.address_bits, self.epilogue.request, self.epilogue.destination
        m.submodules.pixels = pixels = Walker({"out": width, "a": width, "b": width, "y": 17, "x": 17})
        m.submodules.products = products = Products(("y", "x", "row", "pixel"), width)
        self._tracks(m, is_pool, pool, map_, pixels, products)
        block, blocks = Signal(16), Mux(is_pool, pool.out_blocks, map_.out_blocks)
        last_block = delayed(m, block == less_one(m, blocks), 1)
        m.d.comb += [
            destination.payload.address.eq(pixels.out + block),
            destination.payload.channels.eq(Mux(last_block & ~is_pool, map_.last_channels, BLOCK_SIZE)),
        ]
        walk = Walk(pixels, products, block, last_block)
        mapping, pooling = named(m, walk.run & ~is_pool, "mapping"), named(m, walk.run & is_pool, "pooling")
        ready = (request.ready, destination.ready)
        items = InTurn(m, _map_requests(map_, pixels), block, width, mapping, *ready)
        taps = Taps(m, pool, pixels, block, width, pooling, ready)
        m.d.comb += [
            request.valid.eq(Mux(is_pool, taps.request_valid, items.request_valid)),
            request.payload.eq(Mux(is_pool, taps.request, items.request)),
            destination.valid.eq(Mux(is_pool, taps.destination_valid, items.destination_valid)),
        ]
        self._run(m, walk, named(m, items.done | taps.done, "next_block"))

    def _tracks(self, m, is_pool, pool, map_, pixels, products):
        """What the walk over the results follows: places of results and operands, a pool's window."""
        width = len(pixels.out)
        out = (
            Mux(is_pool, getattr(pool, f"out_{part}"), getattr(map_, f"out_{part}"))
            for part in ("address", "row", "pixel")
        )
        new_row, new_pixel = self._repeats(m, map_, pixels)
        corner = (pool.in_address + products.y + products.x)[:width]
        a = (
            Mux(is_pool, corner, map_.a_address),
            Mux(is_pool, products.row, Mux(new_row, map_.a_row, 0)),
            Mux(is_pool, products.pixel, Mux(new_pixel, map_.a_pixel, 0)),
        )
        m.d.comb += [
            *products.set_factors("y", pool.in_y, pool.in_row),
            *products.set_factors("x", pool.in_x, pool.in_pixel),
            *products.set_factors("row", pool.stride_y, pool.in_row),
            *products.set_factors("pixel", pool.stride_x, pool.in_pixel),
            pixels.rows.eq(Mux(is_pool, pool.out_rows, map_.out_rows)),
            pixels.columns.eq(Mux(is_pool, pool.out_columns, map_.out_columns)),
            *pixels.set_track("out", *out),
            *pixels.set_track("a", *a),
            *pixels.set_track("b", map_.b_address, map_.b_row, map_.b_pixel),
            *pixels.set_track("y", pool.in_y, pool.stride_y, 0),
            *pixels.set_track("x", pool.in_x, 0, pool.stride_x),
        ]

    def _run(self, m, walk, next_block):
        """One block after another; done when the last one is written."""
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += self.done.eq(0)
                m.d.comb += walk.products.start.eq(1)
                m.next = "PRODUCTS"
            with m.State("PRODUCTS"):
                m.d.comb += walk.pixels.restart.eq(1)
                m.d.sync += walk.block.eq(0)
                with m.If(walk.products.done):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += walk.run.eq(1)
                with m.If(next_block):
                    m.d.sync += walk.block.eq(walk.block + 1)
                    with m.If(walk.last_block):
                        m.d.sync += walk.block.eq(0)
                        m.d.comb += walk.pixels.advance.eq(1)
                        with m.If(walk.pixels.last):
                            m.next = "DRAIN"
            with m.State("DRAIN"), m.If(self.epilogue.idle):
                m.d.sync += self.done.eq(1)
                m.next = "IDLE"

    def _repeats(self, m, map_, pixels):
        """Whether operand `a` goes on to its next row, its next column, with the next of the results."""
        row, column = Signal(8), Signal(8)
        new_row = named(m, row == map_.repeat_y - 1, "new_row")
        new_column = named(m, column == map_.repeat_x - 1, "new_column")
        with m.If(pixels.restart):
            m.d.sync += [row.eq(0), column.eq(0)]
        with m.Elif(pixels.advance):
            m.d.sync += column.eq(Mux(new_column | pixels.last_column, 0, column + 1))
            with m.If(pixels.last_column):
                m.d.sync += row.eq(Mux(new_row, 0, row + 1))
        return new_row, new_column


def _map_requests(map_, pixels):
    two = map_.operation != MapOperation.COPY
    return [
        Request(1, map_.a_format == FLOAT32_CODE, pixels.a, Mux(two, _FIRST, _FIRST | _LAST)),
        Request(two, map_.b_format == FLOAT32_CODE, pixels.b, _LAST),
        Request(map_.has_scale, 1, map_.scale),
        Request(map_.has_scale, 1, map_.shift),
    ]


class Taps:
    """Ask for the blocks of a pool's window that lie inside the map; members as those of `InTurn`."""

    def __init__(self, m, pool, pixels, block, width, active, ready):
        request_ready, destination_ready = ready
        m.submodules.taps = taps = Walker({"address": width, "y": 17, "x": 17})
        begun, asked, told = Signal(), Signal(), Signal()
        y, x = taps.y, taps.x
        inside = named(m, (y < pool.in_rows) & (x < pool.in_columns), "inside")
        last_row = taps.last_row | (y + 1 == pool.in_rows)
        last = named(m, last_row & (taps.last_column | (x + 1 == pool.in_columns)), "last_inside")
        address = (taps.address + block)[:width]
        # a stage of its own: what is offered stands in registers
        valid, payload, first = Signal(), Signal(1 + width + 2), Signal()
        room = named(m, ~valid | request_ready, "room")
        step = named(m, active & begun & ~asked & room, "step")
        m.d.comb += [
            taps.rows.eq(pool.kernel_rows),
            taps.columns.eq(pool.kernel_columns),
            *taps.set_track("address", pixels.a, pool.in_row, pool.in_pixel),
            *taps.set_track("y", pixels.y, 1, 0),
            *taps.set_track("x", pixels.x, 0, 1),
            taps.restart.eq(active & ~begun),
            taps.advance.eq(step),
        ]
        with m.If(active & ~begun):
            m.d.sync += [begun.eq(1), first.eq(1)]
        with m.If(room):
            m.d.sync += valid.eq(0)
        with m.If(step):
            m.d.sync += [
                valid.eq(inside),
                payload.eq(Cat(pool.in_format == FLOAT32_CODE, address, first, last)),
                asked.eq(taps.last),
            ]
            with m.If(inside):
                m.d.sync += first.eq(0)
        self.request_valid, self.request = valid, payload
        self.destination_valid = named(m, active & ~told, "destination_valid")
        self.done = named(m, active & begun & asked & ~valid & told, "taps_done")
        with m.If(self.destination_valid & destination_ready):
            m.d.sync += told.eq(1)
        with m.If(self.done):
            m.d.sync += [begun.eq(0), asked.eq(0), told.eq(0)]


def _pool_plan(m, pool):
    plan = Signal(Plan(), name="pool_plan")
    average = pool.operation == PoolOperation.AVERAGE
    m.d.comb += [
        plan.gather.eq(Mux(average, Operation.ADD, Operation.MAXIMUM)),
        plan.times.eq(average),
        plan.low.eq(pool.factor),
    ]
    return plan


def _map_plan(m, map_):
    plan, activation = Signal(Plan(), name="map_plan"), map_.activation
    m.d.comb += [
        plan.gather.eq(Operation(map_.operation)),
        plan.scale.eq(map_.has_scale),
        plan.times.eq(activation >= Activation.LEAKY_RELU),
        plan.plus.eq(activation >= Activation.HARD_SIGMOID),
        plan.again.eq((activation == Activation.LEAKY_RELU) | (activation == Activation.HARD_SWISH)),
        plan.larger.eq(activation == Activation.LEAKY_RELU),
        plan.after.eq(Mux(activation <= Activation.CLIP, activation[:2], After.NOTHING)),
        plan.low.eq(map_.low),
        plan.high.eq(map_.high),
    ]
    return plan
