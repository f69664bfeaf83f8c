"""Groups of pixels that take turns in the lanes, found while the group before is at work."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..isa import Instruction
from .instructions import as_kind, unit_words
from .pipeline import named
from .walker import Products, Walker


class PixelGroups(wiring.Component):
    """Walk the output pixels of a `convolve` once for each output block, and keep the places of two groups.

    Parameters
    ----------
    max_interleave : int
        Most pixels of a group.
    block_bits, vector_bits : int
        Address bits of activation memory (blocks) and vector memory (vectors).

    Members
    -------
    instruction : In
        Words of `convolve`, steady from `start` to its last group.
    start : In(1)
        Begin; the first group is there some cycles later.
    ready, size, ends : Out
        There is a group, of so many pixels; it is the last of its output block.
    taken : In(1)
        Go on to the next group.
    slot, other_slot : In
        Pixel of the group.
    place, other_place : Out
        That pixel: `base`, address of the block at its first tap; `y`, `x`, the first tap's position;
        `partial`, the vector of its partial sum.
    tap_row, tap_pixel : Out
        Blocks from a tap to the next, down and across.
    """

    def __init__(self, max_interleave: int, block_bits: int, vector_bits: int):
        self.max_interleave, self.block_bits, self.vector_bits = max_interleave, block_bits, vector_bits
        self.slot_bits = (max_interleave - 1).bit_length()
        self.place_layout = data.StructLayout({"base": block_bits, "y": 17, "x": 17, "partial": vector_bits})
        super().__init__(
            {
                "instruction": In(32 * unit_words("matrix")),
                "start": In(1),
                "ready": Out(1),
                "size": Out(range(max_interleave + 1)),
                "ends": Out(1),
                "taken": In(1),
                "slot": In(self.slot_bits),
                "place": Out(self.place_layout),
                "other_slot": In(self.slot_bits),
                "other_place": Out(self.place_layout),
                "tap_row": Out(block_bits),
                "tap_pixel": Out(block_bits),
            }
        )

    def model(self, i: Instruction) -> list[tuple[list[dict[str, int]], bool]]:
        """Places of the pixels of each group of a `convolve`, and whether it ends its output block."""
        widths = {name: field.width for name, field in self.place_layout}
        most, groups = i.interleave or self.max_interleave, []
        for block in range(i.out_blocks):
            places = []
            for number in range(i.out_rows * i.out_columns):
                row, column = divmod(number, i.out_columns)
                y, x = i.in_y + row * i.stride_y, i.in_x + column * i.stride_x
                place = {"base": i.in_address + y * i.in_row + x * i.in_pixel, "y": y, "x": x}
                place["partial"] = i.partials + number * i.out_blocks + block
                places.append({name: value % (1 << widths[name]) for name, value in place.items()})
            starts = range(0, len(places), most)
            groups += [(places[start : start + most], start + most >= len(places)) for start in starts]
        return groups

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        m.submodules.table = table = memory.Memory(
            shape=self.place_layout, depth=2 << self.slot_bits, init=[]
        )  # a half for each group
        full, ends, half = Signal(2), Signal(2), Signal()
        sizes = Array(Signal(range(self.max_interleave + 1), name=f"size{n}") for n in range(2))
        for slot, place in ((self.slot, self.place), (self.other_slot, self.other_place)):
            read = table.read_port(domain="comb")
            m.d.comb += [read.addr.eq(Cat(slot, half)), place.eq(read.data)]
        m.d.comb += [
            self.ready.eq(full.bit_select(half, 1)),
            self.size.eq(sizes[half]),
            self.ends.eq(ends.bit_select(half, 1)),
        ]
        with m.If(self.start):
            m.d.sync += half.eq(0)
        with m.Elif(self.taken):
            m.d.sync += [half.eq(~half), full.bit_select(half, 1).eq(0)]
        self._fill(m, table.write_port(), full, ends, sizes)
        return m

    def _fill(self, m, write, full, ends, sizes):
        """Write the places of the next group into the half that is free."""
        i = as_kind(self.instruction, "convolve")
        pixels, products = self._walk(m, i)
        half, slot, block = Signal(), Signal(self.slot_bits), Signal(16)
        most = named(m, Mux(i.interleave == 0, self.max_interleave, i.interleave), "most")
        partial = Signal(self.vector_bits)  # partial sums have no row stride of their own
        group_ends = named(m, pixels.last | (slot + 1 == most), "group_ends")
        m.d.comb += [
            write.addr.eq(Cat(slot, half)),
            write.data.base.eq(pixels.base),
            write.data.y.eq(pixels.y),
            write.data.x.eq(pixels.x),
            write.data.partial.eq(partial + block),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [half.eq(0), block.eq(0)]
                with m.If(self.start):
                    m.next = "PRODUCTS"
            with m.State("PRODUCTS"):
                m.d.comb += pixels.restart.eq(1)
                m.d.sync += [slot.eq(0), partial.eq(i.partials)]
                with m.If(products.done):
                    m.next = "FILL"
            with m.State("FILL"), m.If(~full.bit_select(half, 1)):
                m.d.comb += [write.en.eq(1), pixels.advance.eq(1)]
                m.d.sync += [slot.eq(slot + 1), partial.eq(partial + i.out_blocks)]
                with m.If(group_ends):
                    m.d.sync += [
                        slot.eq(0),
                        half.eq(~half),
                        full.bit_select(half, 1).eq(1),
                        ends.bit_select(half, 1).eq(pixels.last),
                        sizes[half].eq(slot + 1),
                    ]
                with m.If(pixels.last):
                    m.d.sync += block.eq(block + 1)
                    m.next = "PRODUCTS"
                    with m.If(block == i.out_blocks - 1):
                        m.next = "IDLE"

    def _walk(self, m, i):
        """The walker over pixels, and the products that it needs."""
        tracks = {"base": self.block_bits, "y": 17, "x": 17}
        m.submodules.pixels = pixels = Walker(tracks)
        names = ("y", "x", "row", "pixel", "tap_row", "tap_pixel")
        m.submodules.products = products = Products(names, self.block_bits)
        m.d.comb += [
            products.start.eq(self.start),
            *products.set_factors("y", i.in_y, i.in_row),
            *products.set_factors("x", i.in_x, i.in_pixel),
            *products.set_factors("row", i.stride_y, i.in_row),
            *products.set_factors("pixel", i.stride_x, i.in_pixel),
            *products.set_factors("tap_row", i.dilation_y, i.in_row),
            *products.set_factors("tap_pixel", i.dilation_x, i.in_pixel),
            self.tap_row.eq(products.tap_row),
            self.tap_pixel.eq(products.tap_pixel),
            pixels.rows.eq(i.out_rows),
            pixels.columns.eq(i.out_columns),
            *pixels.set_track("base", i.in_address + products.y + products.x, products.row, products.pixel),
            *pixels.set_track("y", i.in_y, i.stride_y, 0),
            *pixels.set_track("x", i.in_x, 0, i.stride_x),
        ]
        return pixels, products
