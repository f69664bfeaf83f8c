"""Programs around one convolution of so many pixels that kernels take whole tiles of them.

Its window has random strides, dilations and zeros around it, its map may go on after the last position that a
tap reaches, and its rows of outputs are as wide as tiles at times, so that tiles begin anew in each row.
"""

from dataclasses import replace
from functools import partial

from gatecast.isa import Program, architecture

from .random_programs import Builder, convolution, verified_program

SIZES = replace(architecture("software"), weight_panels=700)


def extent(b, kernel, stride, dilation, outputs):
    """Size of a map and where its window begins, for as many outputs: fewer than fit, at times."""
    start = -b.number(0, (kernel - 1) * dilation)
    last = start + (outputs - 1) * stride + (kernel - 1) * dilation
    return max(last + 1 - b.number(0, (kernel - 1) * dilation) + b.pick(0, 0, 1, 3), 1), start


def wide(b):
    """Fields of the convolution, its groups, input blocks, and shape of outputs."""
    fields, shape = {}, (b.number(3, 12), b.pick(7, 14, 16, 32, b.number(5, 40)))
    for axis, part, outputs in (("y", "rows", shape[0]), ("x", "columns", shape[1])):
        kernel, stride, dilation = b.pick(1, 1, 2, 3, 5), b.pick(1, 1, 2, 3), b.pick(1, 1, 2)
        size, start = extent(b, kernel, stride, dilation, outputs)
        fields |= {f"in_{part}": size, f"in_{axis}": start, f"kernel_{part}": kernel}
        fields |= {f"stride_{axis}": stride, f"dilation_{axis}": dilation}
    return fields, b.pick(0, 0, 0, 1, 2), b.number(1, 3), (*shape, b.number(1, 4))


def wide_convolution(b):
    """The convolution, in a Program; returns the view and shape of its results."""
    return convolution(b, *wide(b), resume=b.chance(0.2))


def wide_program(seed) -> tuple[Program, bytes]:
    """A verified Program, and a section `inputs` for it."""
    return verified_program(partial(Builder, sizes=SIZES), wide_convolution, seed)
