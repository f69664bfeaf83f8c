"""The steps of a convolution: which block of which pixel meets which panel, cycle by cycle."""

from itertools import product

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from ..isa import Instruction, sum_steps
from .instructions import as_kind, unit_words
from .matrix_vector import MatrixVector
from .pipeline import QUEUE, less_one, named, registered
from .pixel_groups import PixelGroups
from .walker import Walker

_UNDER_WAY = 4  # steps that still come when a halt is called


class TileSteps(wiring.Component):
    """Drive a `MatrixVector` through one `convolve`.

    For each output block, for each group of pixels, for each pass over the lanes, for each tap and input
    block: one step for each pixel of the group, and as many empty ones as the accumulator's latency asks.
    They queue for the memory that they read: a read that has to wait stops nothing but the queue's end.

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
        self.block_bits, self.panels, self.ring = block_bits, panels, ring
        self.groups = PixelGroups(max_interleave, block_bits, vector_bits)
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
        # where the steps are
        panel_bits = (panels - 1).bit_length()
        self._turn = Signal(range(max(max_interleave, array.latency) + 1))
        self._size, self._last_turn = Signal(range(max_interleave + 1)), Signal(len(self._turn))
        self._part, self._slot = Signal(range(max(2, array.passes))), Signal(self.groups.slot_bits)
        self._channel, self._block, self._in_group = Signal(16), Signal(16), Signal(16)
        self._first_block, self._first_step = Signal(block_bits), Signal()
        self._base, self._panel = Signal(panel_bits), Signal(panel_bits)
        self._ring_base = Signal((ring - 1).bit_length())
        self._goes, self._emits, self._busy = Signal(), Signal(), Signal()

    def model(self, i: Instruction, before: int = 0) -> list[tuple[int | None, dict[str, int]]]:
        """Each step of a `convolve`: the address that is read, None outside the map, and the step's fields.

        `before` counts the pixels that went into the result memory earlier.
        """
        passes, steps = self.array.passes, sum_steps(i)
        found, block = [], 0
        for places, ends in self.groups.model(i):
            for part, number, slot in product(range(passes), range(steps), range(len(places))):
                panel = (i.weights + block * steps + number) % self.panels
                address = self._model_address(i, places[slot], block, number)
                control = {"panel": panel * passes + part, "slot": slot, "load": slot == 0}
                control |= {"first": number == 0 and not i.resume, "last": number == steps - 1}
                control |= {
                    "result": (before + slot) % self.ring * passes + part,
                    "final": part == passes - 1,
                }
                found.append((address, control | {"zero": address is None}))
            before, block = before + len(places), block + ends
        return found

    def _model_address(self, i, place, block, number):
        """The address of one tap and input block, None where the map does not reach."""
        tap, channel = divmod(number, i.in_blocks)
        down, across = divmod(tap, i.kernel_columns)
        down, across = down * i.dilation_y, across * i.dilation_x
        if (place["y"] + down) % (1 << 17) >= i.in_rows or (place["x"] + across) % (1 << 17) >= i.in_columns:
            return None
        first = block // i.group_blocks * i.in_blocks if i.group_blocks else 0
        address = place["base"] + down * i.in_row + across * i.in_pixel + channel + first
        return address % (1 << self.block_bits)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        i = as_kind(self.instruction, "convolve")
        m.submodules.groups = groups = self.groups
        m.submodules.taps = taps = Walker({"offset": self.block_bits, "y": 17, "x": 17})
        m.d.comb += [
            groups.instruction.eq(self.instruction),
            groups.start.eq(self.start),
            groups.slot.eq(self._slot),
            groups.other_slot.eq(self.resume_slot),
            self.resume_vector.eq(groups.other_place.partial),
            self.resume_pass.eq(self._part),
            taps.rows.eq(i.kernel_rows),
            taps.columns.eq(i.kernel_columns),
            *taps.set_track("offset", 0, groups.tap_row, groups.tap_pixel),
            *taps.set_track("y", 0, i.dilation_y, 0),
            *taps.set_track("x", 0, 0, i.dilation_x),
        ]
        last = named(m, self._channel == less_one(m, i.in_blocks), "last_of_tap")
        last_step = named(m, last & taps.last, "last_of_sum")
        self._step(m, i, taps, last_step)
        # a step has some turns: what its end depends on may come from registers
        self._sequence(m, i, taps, *registered(m, True, last, last_step))
        return m

    def _sequence(self, m, i, taps, last_channel, last_step):
        """Group after group, pass after pass, step after step."""
        groups = self.groups
        takes, room = self._ring_room(m)
        last_block, last_of_group = less_one(m, i.out_blocks), less_one(m, i.group_blocks)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += Cat(self._block, self._in_group, self._first_block).eq(0)
                m.d.sync += self._base.eq(i.weights)
                with m.If(self.start):
                    m.d.sync += self.done.eq(0)
                    m.next = "GROUP"
            with m.State("GROUP"):
                m.d.sync += self._part.eq(0)
                m.d.comb += takes.eq(groups.ready & (room >= groups.size))
                with m.If(takes):
                    m.next = "PASS"
            with m.State("PASS"):
                self._begin_pass(m, taps)
                m.next = "STEP"
                with m.If(i.resume):
                    m.next = "RESUME"
            with m.State("RESUME"):
                m.d.comb += self.resume_valid.eq(self.quiet & ~self._busy)
                with m.If(self.resume_valid & self.resume_ready):
                    m.d.sync += self.resume_slot.eq(self.resume_slot + 1)
                    with m.If(self.resume_slot == self._size - 1):
                        m.next = "STEP"
            with m.State("STEP"):
                m.d.comb += self._emits.eq(1)
                step_ends = self._take_turns(m, taps, last_channel)
                with m.If(step_ends & last_step):
                    m.d.sync += self._part.eq(self._part + 1)
                    m.next = "PASS"
                    with m.If(self._part == self.array.passes - 1):
                        m.next = "NEXT"
            with m.State("NEXT"):
                m.d.comb += groups.taken.eq(1)
                m.next = "GROUP"
                with m.If(groups.ends):
                    self._next_block(m, i, last_of_group)
                    with m.If(self._block == last_block):
                        m.next = "EMPTY"
            with m.State("EMPTY"), m.If(~self._busy):
                m.d.sync += self.done.eq(1)
                m.next = "IDLE"

    def _ring_room(self, m):
        """Pixels of the result memory that are free; `takes` takes some, and `taken` moves on behind them."""
        groups, takes, room = self.groups, Signal(), Signal(range(self.ring + 1), init=self.ring)
        with m.If(takes):
            m.d.sync += self._size.eq(groups.size)
        m.d.sync += [
            room.eq(room + self.freed - Mux(takes, groups.size, 0)),
            self._ring_base.eq(self._ring_base + Mux(groups.taken, self._size, 0)),
        ]
        return takes, room

    def _begin_pass(self, m, taps):
        m.d.comb += taps.restart.eq(1)
        latency = self.array.latency
        m.d.sync += self._last_turn.eq(Mux(self._size < latency, latency, self._size) - 1)
        m.d.sync += [self._channel.eq(0), self._turn.eq(0), self._slot.eq(0)]
        m.d.sync += [self._panel.eq(self._base), self._first_step.eq(1), self.resume_slot.eq(0)]

    def _take_turns(self, m, taps, last_channel):
        """The next pixel of the group; returns whether it was the step's last."""
        ends = named(m, self._goes & (self._turn == self._last_turn), "step_ends")
        with m.If(self._goes):
            m.d.sync += [self._turn.eq(self._turn + 1), self._slot.eq(self._slot + 1)]
        with m.If(ends):
            m.d.comb += taps.advance.eq(last_channel)
            m.d.sync += [
                self._turn.eq(0),
                self._slot.eq(0),
                self._channel.eq(Mux(last_channel, 0, self._channel + 1)),
                self._panel.eq(Mux(self._panel == self.panels - 1, 0, self._panel + 1)),
                self._first_step.eq(0),
            ]
        return ends

    def _next_block(self, m, i, last_of_group):
        """The next output block: its panels follow, its group's slice may."""
        m.d.sync += [
            self._block.eq(self._block + 1),
            self._base.eq(self._panel),
            self._in_group.eq(self._in_group + 1),
        ]
        with m.If(self._in_group == last_of_group):
            m.d.sync += [self._in_group.eq(0), self._first_block.eq(self._first_block + i.in_blocks)]

    def _step(self, m, i, taps, last_step):
        """Two stages: the pixel's place; its block, and whether it is stored. Then the queue."""
        passes, result = self.array.passes, (self._ring_base + self._slot)[: len(self._ring_base)]
        control = {
            "valid": self._emits & (self._turn < self._size),
            "load": self._emits & (self._turn == 0),
            "panel": Cat(self._part, self._panel) if passes > 1 else self._panel,
            "slot": self._slot,
            "first": self._first_step & ~i.resume,
            "last": last_step,
            "result": Cat(self._part, result) if passes > 1 else result,
            "final": self._part == passes - 1,
        }
        found, step = (Signal(self.array.step_layout, name=f"step{n}") for n in range(2))
        queued, moves = Signal(2), named(m, self._emits & self._goes, "moves")
        pixel, inside, address = Signal(self.groups.place_layout), Signal(), Signal(self.block_bits)
        offset, y, x = Signal(self.block_bits), Signal(17), Signal(17)
        tap_y, tap_x = (named(m, (a + b)[:17], "at") for a, b in ((pixel.y, y), (pixel.x, x)))
        m.d.sync += [getattr(found, name).eq(value) for name, value in control.items()]
        m.d.sync += [
            queued.eq(Cat(moves, queued)),
            pixel.eq(self.groups.place),
            offset.eq(taps.offset + self._channel + self._first_block),
            y.eq(taps.y),
            x.eq(taps.x),
            step.eq(found),
            address.eq(pixel.base + offset),
            inside.eq((tap_y < i.in_rows) & (tap_x < i.in_columns)),
        ]
        self._queue(m, queued, Cat(step, address, inside))

    def _queue(self, m, queued, item):
        """Steps wait until their reads are taken; empty ones too, for the distance that they keep."""
        m.submodules.queue = queue = fifo.SyncFIFO(width=len(item), depth=QUEUE)
        front, inside, there = Signal(self.array.step_layout), Signal(), Signal()
        stall = named(m, self.read_valid & ~self.read_ready, "stall")
        m.d.comb += [
            queue.w_data.eq(item),
            queue.w_en.eq(queued[1]),
            queue.r_en.eq(~stall),
            self.read_valid.eq(there & front.valid & inside),
            self._busy.eq(queued.any() | queue.r_rdy | there),
            self.step.eq(front),
            self.step.valid.eq(there & front.valid & ~stall),
            self.step.load.eq(there & front.load & ~stall),
            self.step.zero.eq(~inside),
        ]
        m.d.sync += self._goes.eq(queue.level < QUEUE - _UNDER_WAY)
        with m.If(~stall):
            m.d.sync += [Cat(front, self.read_address, inside).eq(queue.r_data), there.eq(queue.r_rdy)]
