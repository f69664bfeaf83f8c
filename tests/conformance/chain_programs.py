"""Programs of some convolutions, one after the other, in little memory.

Each reads what an earlier one made, or two of them; results lie where older ones were, whole or in part, or
where their own residual is, with gaps between pixels at times. Between them there are pools and maps, which
read and write likewise. So what one instruction makes for another is read once, often or never, by some kinds
or others.
"""

from dataclasses import replace
from functools import partial

from gatecast.isa import Program, View, architecture
from gatecast.numerics import FORMATS

from .random_programs import Builder, convolve_epilogue, limits, outputs_of, verified_program, view_of

ARENA = 500
"""Blocks in which results lie, if they fit."""

SIZES = replace(architecture("software"), weight_panels=700)


def places(view, shape):
    """Blocks of activation memory that a map takes."""
    rows, columns, blocks = shape
    return {
        view.address + y * view.row + x * view.pixel + block
        for y in range(rows)
        for x in range(columns)
        for block in range(blocks)
    }


class Chain:
    """Maps that are still whole, each with its view and shape."""

    def __init__(self, b):
        self.b, self.maps = b, []
        shape = (b.pick(6, 7, 14), b.pick(6, 7, 14, 16), b.number(1, 2))
        fields = b.load("in", shape, b.pick("bfp8", *FORMATS))
        self.base = b.blocks
        b.blocks += ARENA
        self.maps.append((view_of(fields, "in"), shape))

    def room(self, shape, name, reads, over=None):
        """Where a result is to lie, beside what is read for it; what it overwrites is there no more."""
        b, (rows, columns, blocks) = self.b, shape
        pixel = blocks + b.pick(0, 0, 0, 1)
        row = columns * pixel + b.pick(0, 0, 0, 1)
        size = (rows - 1) * row + (columns - 1) * pixel + blocks
        read = set().union(*(places(*map_) for map_ in reads))
        for _ in range(20):
            view = over or View(self.base + b.pick(0, b.number(0, max(ARENA - size, 0))), name, row, pixel)
            if over or (size <= ARENA and not places(view, shape) & read):
                break
        else:
            view, b.blocks = View(b.blocks, name, row, pixel), b.blocks + size
        taken = places(view, shape)
        self.maps = [map_ for map_ in self.maps if not taken & places(*map_)]
        self.maps.append((view, shape))
        return view

    def read(self):
        return self.b.pick(*self.maps)

    def residual(self, shape):
        """A map of this shape, if there is one."""
        same = [view for view, other in self.maps if other == shape]
        return self.b.pick(*same) if same else None

    def convolve(self):
        b, (view, (rows, columns, stored)) = self.b, self.read()
        kernel, stride, made = b.pick(1, 1, 3), b.pick(1, 1, 1, 2), b.pick(stored, b.number(1, 3))
        shape = ((rows - 1) // stride + 1, (columns - 1) // stride + 1, made)
        fields = {
            "in_rows": rows, "in_columns": columns, "in_y": -(kernel // 2), "in_x": -(kernel // 2),
            "kernel_rows": kernel, "kernel_columns": kernel, "stride_y": stride, "stride_x": stride,
            "in_blocks": stored, "weight_format": b.pick("bfp8", *FORMATS), **view.fields("in"),
            "weights": 0, **outputs_of(shape),
        }  # fmt: skip
        fields["weights"] = b.panels(kernel * kernel * stored * made, fields["weight_format"])
        other, over, reads = self.residual(shape), None, [(view, (rows, columns, stored))]
        if b.chance(0.7):
            fields |= limits(b, 0, 1, 1) | {"has_bias": 1, "bias": b.constants(made, -8, 8)}
            if other and b.chance(0.8):
                fields |= other.fields("residual")
                over = other if b.chance(0.3) and other != view else None
                reads += [] if over else [(other, shape)]
        else:
            fields |= convolve_epilogue(b, shape)
        out = self.room(shape, b.pick("bfp8", *FORMATS), reads, over)
        b.add("convolve", **fields, **out.fields("out"))

    def pool(self):
        b, (view, (rows, columns, blocks)) = self.b, self.read()
        kernel, stride, average = b.pick(2, 3), b.pick(1, 2, 2), b.pick(0, 0, 1)
        pad = b.number(0, kernel - 1)
        shape = ((rows - 1 + pad) // stride + 1, (columns - 1 + pad) // stride + 1, blocks)
        fields = {
            "in_rows": rows, "in_columns": columns, "in_y": -pad, "in_x": -pad,
            "kernel_rows": kernel, "kernel_columns": kernel, "stride_y": stride, "stride_x": stride,
            "operation": average, "factor": average / kernel**2, **view.fields("in"),
        }  # fmt: skip
        fields |= outputs_of(shape)
        out = self.room(shape, b.pick("bfp8", *FORMATS), [(view, (rows, columns, blocks))])
        b.add("pool", **fields, **out.fields("out"))

    def map(self):
        b, (view, shape) = self.b, self.read()
        other = self.residual(shape)
        fields = {"operation": 1, "repeat_y": 1, "repeat_x": 1, **view.fields("a"), **other.fields("b")}
        fields |= outputs_of(shape)
        out = self.room(shape, b.pick(*FORMATS), [(view, shape), (other, shape)])
        b.add("map", **fields, **out.fields("out"))


def chain(b):
    """The instructions, in a Program; returns the view and shape of the last result."""
    made = Chain(b)
    for _ in range(b.number(2, 9)):
        getattr(made, b.pick("convolve", "convolve", "convolve", "convolve", "convolve", "pool", "map"))()
    return made.maps[-1]


def chain_program(seed) -> tuple[Program, bytes]:
    """A verified Program, and a section `inputs` for it."""
    return verified_program(partial(Builder, sizes=SIZES), chain, seed)
