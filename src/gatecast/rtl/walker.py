"""Address generation: nested counters with strides, and the products of strides that they need."""

from collections.abc import Mapping
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .pipeline import named


@dataclass(frozen=True)
class Track:
    """A number that a `Walker` carries along: where it starts, and what a row and a column add."""

    start: int
    row: int
    pixel: int


class Walker(wiring.Component):
    """Walk the columns of each row; at each position every track is ``start + y * row + x * pixel``.

    One component serves pixels of a map, taps of a kernel and bytes in external memory: all are such sums,
    modulo the width of a track, and need one addition a step.

    Parameters
    ----------
    tracks : mapping of str to int
        Width of each track in bits.

    Members
    -------
    rows, columns : In(16)
        At least 1.
    <track>_start, <track>_row, <track>_pixel : In
        Numbers of the track; strides may change while it walks.
    restart : In(1)
        Go to row 0, column 0: it is there a cycle later.
    advance : In(1)
        Go on.
    last_column, last_row, last : Out(1)
        This is the last position of its row, one of the last row, the last of all.
    <track> : Out
        Its number here.
    """

    def __init__(self, tracks: Mapping[str, int]):
        self.tracks = dict(tracks)
        members = {
            "rows": In(16),
            "columns": In(16),
            "restart": In(1),
            "advance": In(1),
            "last_column": Out(1),
            "last_row": Out(1),
            "last": Out(1),
        }
        for name, width in self.tracks.items():
            members |= {f"{name}_{part}": In(width) for part in ("start", "row", "pixel")}
            members[name] = Out(width)
        super().__init__(members)

    def model(self, tracks: Mapping[str, Track], rows: int, columns: int) -> list[dict[str, int]]:
        """Tracks at each position, in order."""
        return [
            {
                name: (t.start + y * t.row + x * t.pixel) % (1 << self.tracks[name])
                for name, t in tracks.items()
            }
            for y in range(rows)
            for x in range(columns)
        ]

    def set_track(self, name, start, row, pixel):
        """Statements that connect the numbers of a track."""
        return [
            getattr(self, f"{name}_{part}").eq(value)
            for part, value in (("start", start), ("row", row), ("pixel", pixel))
        ]

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        rows_left, columns_left = Signal(16), Signal(16)
        m.d.comb += self.last.eq(self.last_column & self.last_row)
        new_row = named(m, self.last_column, "new_row")
        one_column = named(m, self.columns == 1, "one_column")
        with m.If(self.restart):
            m.d.sync += [rows_left.eq(self.rows), columns_left.eq(self.columns)]
            m.d.sync += [self.last_row.eq(self.rows == 1), self.last_column.eq(one_column)]
        with m.Elif(self.advance):
            m.d.sync += [
                columns_left.eq(Mux(new_row, self.columns, columns_left - 1)),
                self.last_column.eq(Mux(new_row, one_column, columns_left == 2)),
                rows_left.eq(rows_left - new_row),
            ]
            with m.If(new_row):
                m.d.sync += self.last_row.eq(rows_left == 2)
        for name, width in self.tracks.items():
            start, row, pixel = (getattr(self, f"{name}_{part}") for part in ("start", "row", "pixel"))
            here, row_start = getattr(self, name), Signal(width, name=f"{name}_row_start")
            following = named(m, (Mux(new_row, row_start, here) + Mux(new_row, row, pixel))[:width], name)
            with m.If(self.restart):
                m.d.sync += [here.eq(start), row_start.eq(start)]
            with m.Elif(self.advance):
                m.d.sync += here.eq(following)
                with m.If(new_row):
                    m.d.sync += row_start.eq(following)
        return m


class Products(wiring.Component):
    """Products of pairs of numbers modulo ``2**width``, one bit a cycle: strides, once an instruction.

    Parameters
    ----------
    names : tuple of str
        One product each.
    width : int
        Bits of the factors and the product; two's complement serves as well.

    Members
    -------
    start : In(1)
        Take the factors.
    <name>_a, <name>_b : In(width)
        Factors.
    <name> : Out(width)
        Product, valid from `done` until the next start.
    done : Out(1)
        Falls with start, rises `width` cycles later.
    """

    def __init__(self, names: tuple[str, ...], width: int):
        self.names, self.width = names, width
        members = {"start": In(1), "done": Out(1, init=1)}
        for name in names:
            members |= {f"{name}_a": In(width), f"{name}_b": In(width), name: Out(width)}
        super().__init__(members)

    @property
    def latency(self) -> int:
        """Cycles from start to done."""
        return self.width + 1

    def set_factors(self, name, a, b):
        """Statements that connect the factors of a product; they are extended by their signs."""
        return [getattr(self, f"{name}_a").eq(a), getattr(self, f"{name}_b").eq(b)]

    def model(self, a: int, b: int) -> int:
        """What a product is."""
        return a * b % (1 << self.width)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        left = Signal(range(self.width + 1))
        m.d.comb += self.done.eq(left == 0)
        with m.If(self.start):
            m.d.sync += left.eq(self.width)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        for name in self.names:
            a, b, product = Signal(self.width, name="a"), Signal(self.width, name="b"), getattr(self, name)
            with m.If(self.start):
                m.d.sync += [
                    a.eq(getattr(self, f"{name}_a")),
                    b.eq(getattr(self, f"{name}_b")),
                    product.eq(0),
                ]
            with m.Elif(left != 0):
                m.d.sync += [
                    a.eq(Cat(0, a)[: self.width]),
                    b.eq(b[1:]),
                    product.eq((product + Mux(b[0], a, 0))[: self.width]),
                ]
        return m


class Walk:
    """A map's pixels and, at each, its blocks: what a unit's walk over its results is made of.

    Parameters
    ----------
    pixels : Walker
    products : Products
        The pixels' strides.
    block : Signal
        Number of the block.
    last_block : Value
        It is the last one.

    Members
    -------
    run : Signal
        The walk is under way.
    """

    def __init__(self, pixels: Walker, products: Products, block: Signal, last_block: Value):
        self.pixels, self.products, self.block, self.last_block = pixels, products, block, last_block
        self.run = Signal(name="run")
