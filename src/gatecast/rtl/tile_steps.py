"""The steps of a convolution: which block of which pixel meets which panel, cycle by cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .instructions import as_kind, unit_words
from .matrix_vector import MatrixVector
from .pipeline import named
from .walker import Products, Walker


class TileSteps(wiring.Component):
    """Drive a `MatrixVector` through one `convolve`.

    For each output block, for each group of pixels, for each pass over the lanes, for each tap and input
    block: one step for each pixel of the group, and as many empty ones as the accumulator's latency asks.
    Two tables hold the places of the pixels: one is filled while the other is used.

    Parameters
    ----------
    array : MatrixVector
        What is driven; its sizes count.
    max_interleave : int
        Most pixels of a group.
    block_bits, vector_bits : int
        Address bits of activation memory (blocks) and vector memory (vectors).
    panels, ring : int
        Panels of weight memory; pixels of the result memory.

    Members
    -------
    instruction : In
        Words of `convolve`, steady from `start` to `done`.
    start : In(1), done : Out(1)
        Done: all steps are on their way.
    read_valid, read_ready, read_address
        Reads of activation memory, one for each step that is not padding, in the cycle of the step.
    step : Out
        The step, as `MatrixVector` takes it.
    freed : In(1)
        A pixel of the result memory has been read.
    resume_valid, resume_ready, resume_slot, resume_pass, resume_vector
        Before a pass of a resumed sum: the vector of partial sums of a slot; taken when it has been set.
    quiet : In(1)
        No step is on its way in the array.
    """

    def __init__(self, array: MatrixVector, max_interleave, block_bits, vector_bits, panels, ring):
        self.array, self.max_interleave = array, max_interleave
        self.block_bits, self.vector_bits, self.panels, self.ring = block_bits, vector_bits, panels, ring
        self.ring_bits = (ring - 1).bit_length()
        super().__init__(
            {
                "instruction": In(32 * unit_words("matrix")),
                "start": In(1),
                "done": Out(1, init=1),
                "read_valid": Out(1),
                "read_ready": In(1),
                "read_address": Out(block_bits),
                "step": Out(array.step_layout),
                "freed": In(1),
                "resume_valid": Out(1),
                "resume_ready": In(1),
                "resume_slot": Out(range(max_interleave)),
                "resume_pass": Out(range(max(2, array.passes))),
                "resume_vector": Out(vector_bits),
                "quiet": In(1),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        i = as_kind(self.instruction, "convolve")
        width = self.block_bits
        names = ("y", "x", "row", "pixel", "tap_row", "tap_pixel")
        m.submodules.products = products = Products(names, width)
        m.d.comb += [
            products.start.eq(self.start),
            *products.set_factors("y", i.in_y, i.in_row),
            *products.set_factors("x", i.in_x, i.in_pixel),
            *products.set_factors("row", i.stride_y, i.in_row),
            *products.set_factors("pixel", i.stride_x, i.in_pixel),
            *products.set_factors("tap_row", i.dilation_y, i.in_row),
            *products.set_factors("tap_pixel", i.dilation_x, i.in_pixel),
        ]
        entry = data.StructLayout({"base": width, "y": 17, "x": 17, "partial": self.vector_bits})
        slot_bits = (self.max_interleave - 1).bit_length()
        m.submodules.table = table = memory.Memory(
            shape=entry.size, depth=2 << slot_bits, init=[]
        )  # two halves
        sizes = [Signal(range(self.max_interleave + 1), name=f"size{n}") for n in range(2)]
        block_ends = Signal(2)  # the group is the last of its output block
        full = Signal(2)
        self._fill(m, i, products, entry, table, slot_bits, (full, sizes, block_ends))
        self._issue(m, i, products, entry, table, slot_bits, (full, sizes, block_ends))
        return m

    def _fill(self, m, i, products, entry, table, slot_bits, groups):
        """Write the places of the next group of pixels into the free half of the table."""
        full, sizes, block_ends = groups
        tracks = {"base": self.block_bits, "y": 17, "x": 17, "partial": self.vector_bits}
        m.submodules.pixels = pixels = Walker(tracks)
        half, slot, block, most = (
            Signal(),
            Signal(slot_bits),
            Signal(16),
            Signal(range(self.max_interleave + 1)),
        )
        write = table.write_port()
        row = data.View(entry, write.data)
        partial = Signal(self.vector_bits)  # partial sums have no row stride of their own
        m.d.comb += [
            most.eq(Mux(i.interleave == 0, self.max_interleave, i.interleave)),
            pixels.rows.eq(i.out_rows),
            pixels.columns.eq(i.out_columns),
            *pixels.set_track("base", i.in_address + products.y + products.x, products.row, products.pixel),
            *pixels.set_track("y", i.in_y, i.stride_y, 0),
            *pixels.set_track("x", i.in_x, 0, i.stride_x),
            write.addr.eq(Cat(slot, half)),
            row.base.eq(pixels.base),
            row.y.eq(pixels.y),
            row.x.eq(pixels.x),
            row.partial.eq(partial + block),
        ]
        with m.FSM(name="fill"):
            with m.State("IDLE"):
                m.d.sync += [half.eq(0), block.eq(0)]
                with m.If(self.start):
                    m.next = "PRODUCTS"
            with m.State("PRODUCTS"):
                m.d.comb += pixels.restart.eq(1)
                m.d.sync += [slot.eq(0), partial.eq(i.partials)]
                with m.If(products.done):
                    m.next = "FILL"
            with m.State("FILL"):
                with m.If(~full.bit_select(half, 1)):
                    ends = named(m, pixels.last | (slot + 1 == most), "group_ends")
                    m.d.comb += [write.en.eq(1), pixels.advance.eq(1)]
                    m.d.sync += [slot.eq(slot + 1), partial.eq(partial + i.out_blocks)]
                    with m.If(ends):
                        m.d.sync += [
                            slot.eq(0),
                            half.eq(~half),
                            full.bit_select(half, 1).eq(1),
                            block_ends.bit_select(half, 1).eq(pixels.last),
                            *(
                                size.eq(Mux(half == number, slot + 1, size))
                                for number, size in enumerate(sizes)
                            ),
                        ]
                    with m.If(pixels.last):
                        m.d.sync += block.eq(block + 1)
                        m.next = "PRODUCTS"
                        with m.If(block == i.out_blocks - 1):
                            m.next = "IDLE"

    def _issue(self, m, i, products, entry, table, slot_bits, groups):
        """Take the pixels of a group in turn, step after step, pass after pass."""
        full, sizes, block_ends = groups
        width, passes = self.block_bits, self.array.passes
        panel_bits = (self.panels - 1).bit_length()
        m.submodules.taps = taps = Walker({"offset": width, "y": 17, "x": 17})
        half, slot, part = Signal(), Signal(slot_bits), Signal(range(max(2, passes)))
        size = named(m, Mux(half, sizes[1], sizes[0]), "size")
        turns = named(m, Mux(size < self.array.latency, self.array.latency, size), "turns")
        turn = Signal(range(max(self.max_interleave, self.array.latency) + 1))
        channel, first_block = Signal(16), Signal(width)  # input block of the tap; first of the group's slice
        in_group, block = Signal(16), Signal(16)
        base, panel = Signal(panel_bits), Signal(panel_bits)
        ring_base, room = Signal(self.ring_bits), Signal(range(self.ring + 1), init=self.ring)
        first_step = Signal()
        last_channel = named(m, channel == i.in_blocks - 1, "last_channel")
        last_step = named(m, last_channel & taps.last, "last_step")
        last_turn = named(m, turn == turns - 1, "last_turn")
        next_panel = named(m, Mux(panel == self.panels - 1, 0, panel + 1), "next_panel")
        m.d.comb += [
            taps.rows.eq(i.kernel_rows),
            taps.columns.eq(i.kernel_columns),
            *taps.set_track("offset", 0, products.tap_row, products.tap_pixel),
            *taps.set_track("y", 0, i.dilation_y, 0),
            *taps.set_track("x", 0, 0, i.dilation_x),
        ]
        stall, emits, busy, takes = Signal(), Signal(), Signal(), Signal()
        m.d.sync += room.eq(room + self.freed - Mux(takes, size, 0))
        resume_read, resume_row = table.read_port(domain="comb"), Signal(entry)
        m.d.comb += [
            resume_read.addr.eq(Cat(self.resume_slot, half)),
            resume_row.eq(resume_read.data),
            self.resume_pass.eq(part),
            self.resume_vector.eq(resume_row.partial),
        ]
        with m.FSM(name="issue"):
            with m.State("IDLE"):
                m.d.sync += [
                    half.eq(0),
                    block.eq(0),
                    in_group.eq(0),
                    first_block.eq(0),
                    base.eq(i.weights),
                ]
                with m.If(self.start):
                    m.d.sync += self.done.eq(0)
                    m.next = "GROUP"
            with m.State("GROUP"):
                m.d.sync += part.eq(0)
                m.d.comb += takes.eq(full.bit_select(half, 1) & (room >= size))
                with m.If(takes):
                    m.next = "PASS"
            with m.State("PASS"):
                m.d.comb += taps.restart.eq(1)
                m.d.sync += [
                    channel.eq(0),
                    turn.eq(0),
                    slot.eq(0),
                    panel.eq(base),
                    first_step.eq(1),
                    self.resume_slot.eq(0),
                ]
                m.next = "STEP"
                with m.If(i.resume):
                    m.next = "RESUME"
            with m.State("RESUME"):
                m.d.comb += self.resume_valid.eq(self.quiet & ~busy)
                with m.If(self.resume_valid & self.resume_ready):
                    m.d.sync += self.resume_slot.eq(self.resume_slot + 1)
                    with m.If(self.resume_slot == size - 1):
                        m.next = "STEP"
            with m.State("STEP"):
                m.d.comb += emits.eq(1)
                with m.If(~stall):
                    m.d.sync += [turn.eq(turn + 1), slot.eq(slot + 1)]
                    with m.If(last_turn):
                        m.d.comb += taps.advance.eq(last_channel)
                        m.d.sync += [
                            turn.eq(0),
                            slot.eq(0),
                            channel.eq(Mux(last_channel, 0, channel + 1)),
                            panel.eq(next_panel),
                            first_step.eq(0),
                        ]
                        with m.If(last_step):
                            m.d.sync += part.eq(part + 1)
                            m.next = "PASS"
                            with m.If(part == passes - 1):
                                m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += [
                    half.eq(~half),
                    full.bit_select(half, 1).eq(0),
                    ring_base.eq(ring_base + size),
                ]
                m.next = "GROUP"
                with m.If(block_ends.bit_select(half, 1)):
                    m.d.sync += [block.eq(block + 1), base.eq(panel), in_group.eq(in_group + 1)]
                    with m.If(in_group == i.group_blocks - 1):
                        m.d.sync += [in_group.eq(0), first_block.eq(first_block + i.in_blocks)]
                    with m.If(block == i.out_blocks - 1):
                        m.next = "EMPTY"
            with m.State("EMPTY"):
                with m.If(~busy):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"

        offset = (taps.offset + channel + first_block)[:width]
        result = (ring_base + slot)[: self.ring_bits]
        if passes > 1:
            panel_and_pass, result = Cat(part, panel), Cat(part, result)
        else:
            panel_and_pass = panel
        control = {
            "valid": emits & (turn < size),
            "load": emits & (turn == 0),
            "panel": panel_and_pass,
            "slot": slot,
            "first": first_step & ~i.resume,
            "last": last_step,
            "result": result,
            "final": part == passes - 1,
        }
        self._address(m, i, table, entry, Cat(slot, half), (offset, taps.y, taps.x), control, stall, busy)

    def _address(self, m, i, table, entry, place, tap, control, stall, busy):
        """Two stages: the pixel's place; its block, and whether it is stored. Then the step."""
        read = table.read_port(domain="comb")
        m.d.comb += read.addr.eq(place)
        stages = [Signal(self.array.step_layout, name=f"step{n}") for n in range(2)]
        pixel, offset, y, x = Signal(entry), Signal(self.block_bits), Signal(17), Signal(17)
        tap_y, tap_x = (named(m, (a + b)[:17], "at") for a, b in ((pixel.y, y), (pixel.x, x)))
        inside = Signal()
        with m.If(~stall):
            m.d.sync += [getattr(stages[0], name).eq(value) for name, value in control.items()]
            m.d.sync += [pixel.eq(read.data), Cat(offset, y, x).eq(Cat(tap[0], tap[1], tap[2]))]
            m.d.sync += [
                stages[1].eq(stages[0]),
                self.read_address.eq(pixel.base + offset),
                inside.eq((tap_y < i.in_rows) & (tap_x < i.in_columns)),
            ]
        step = stages[1]
        m.d.comb += [
            self.read_valid.eq(step.valid & inside),
            stall.eq(self.read_valid & ~self.read_ready),
            busy.eq(stages[0].valid | stages[1].valid),
            self.step.eq(step),
            self.step.valid.eq(step.valid & ~stall),
            self.step.load.eq(step.load & ~stall),
            self.step.zero.eq(~inside),
        ]
