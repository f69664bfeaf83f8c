"""Each instruction of the reference device against plain loops, written from docs/spec/isa.md §6."""

import copy
import itertools

import numpy as np
import pytest

from gatecast.devices.reference.device import INSTRUCTIONS
from gatecast.isa import FORMAT_NAMES, Instruction
from gatecast.numerics import FORMATS, Block, accumulate, decode_block, encode_block

f32 = np.float32


def block(memory, address, name):
    exponent = int(memory.exponents[address]) - 127
    return Block(FORMATS[name], exponent, tuple(int(m) for m in memory.mantissas[address]))


def lane(memory, panel, number, name):
    exponent = int(memory.panel_exponents[panel, number]) - 127
    return Block(FORMATS[name], exponent, tuple(int(m) for m in memory.panels[panel, number]))


def address(i, view, y, x, c):
    start, row, pixel = (getattr(i, f"{view}_{part}") for part in ("address", "row", "pixel"))
    return start + y * row + x * pixel + c


def read(memory, i, view, y, x, c):
    """32 values of a view."""
    name = FORMAT_NAMES[getattr(i, f"{view}_format")]
    at = address(i, view, y, x, c)
    if name == "float32":
        return list(memory.vectors[at])
    return [f32(value) for value in decode_block(block(memory, at, name))]


def write(memory, i, y, x, c, values):
    name, at = FORMAT_NAMES[i.out_format], address(i, "out", y, x, c)
    values = [value + f32(0) for value in values]
    if i.has("last_channels") and c == i.out_blocks - 1:
        values[i.last_channels :] = [f32(0)] * (32 - i.last_channels)
    if name == "float32":
        memory.vectors[at] = values
    else:
        made = encode_block([float(value) for value in values], FORMATS[name])
        memory.mantissas[at], memory.exponents[at] = made.mantissas, made.exponent + 127


def outputs(i):
    return itertools.product(range(i.out_rows), range(i.out_columns), range(i.out_blocks))


def activate(i, v):
    low, high = f32(i.low), f32(i.high)
    if i.activation == 0:
        return v
    if i.activation == 1:
        return v if v > 0 else f32(0)
    if i.activation == 2:
        return low if v < low else high if v > high else v
    if i.activation == 3:
        return max(v, low * v)
    h = low * v + high
    h = f32(0) if h < 0 else f32(1) if h > 1 else h
    return h if i.activation == 4 else v * h


def epilogue(memory, i, c, values, residual=None):
    if i.has("has_bias") and i.has_bias:
        values = [v + b for v, b in zip(values, memory.vectors[i.bias + c], strict=True)]
    if i.has_scale:
        values = [v * s for v, s in zip(values, memory.vectors[i.scale + c], strict=True)]
        values = [v + s for v, s in zip(values, memory.vectors[i.shift + c], strict=True)]
    if residual is not None:
        values = [v + r for v, r in zip(values, residual, strict=True)]
    return [activate(i, v) for v in values]


def convolve(memory, before, i):
    steps = i.kernel_rows * i.kernel_columns * i.in_blocks
    inputs, weights = FORMAT_NAMES[i.in_format], FORMAT_NAMES[i.weight_format]
    for oy, ox, ob in outputs(i):
        index = (oy * i.out_columns + ox) * i.out_blocks + ob
        sums = list(before.vectors[i.partials + index]) if i.resume else [f32(0)] * 32
        first = ob // i.group_blocks * i.in_blocks if i.group_blocks else 0
        taps = itertools.product(range(i.kernel_rows), range(i.kernel_columns), range(i.in_blocks))
        for step, (ky, kx, cb) in enumerate(taps):
            y = i.in_y + oy * i.stride_y + ky * i.dilation_y
            x = i.in_x + ox * i.stride_x + kx * i.dilation_x
            if 0 <= y < i.in_rows and 0 <= x < i.in_columns:
                activation = block(before, address(i, "in", y, x, first + cb), inputs)
                panel = (i.weights + ob * steps + step) % before.wrap
                sums = [
                    accumulate(s, activation, lane(before, panel, c, weights)) for c, s in enumerate(sums)
                ]
        if i.suspend:
            memory.vectors[i.partials + index] = sums
        else:
            residual = read(before, i, "residual", oy, ox, ob) if i.residual_format else None
            write(memory, i, oy, ox, ob, epilogue(before, i, ob, sums, residual))


def pool(memory, before, i):
    for oy, ox, ob in outputs(i):
        found = [
            read(before, i, "in", y, x, ob)
            for y in range(i.in_y + oy * i.stride_y, i.in_y + oy * i.stride_y + i.kernel_rows)
            for x in range(i.in_x + ox * i.stride_x, i.in_x + ox * i.stride_x + i.kernel_columns)
            if 0 <= y < i.in_rows and 0 <= x < i.in_columns
        ]
        if i.operation == 0:
            values = [max(lanes) for lanes in zip(*found, strict=True)]
        else:
            values = [f32(0)] * 32
            for position in found:
                values = [total + v for total, v in zip(values, position, strict=True)]
            values = [total * f32(i.factor) for total in values]
        write(memory, i, oy, ox, ob, values)


def map_values(memory, before, i):
    operations = (None, np.add, np.subtract, np.multiply, max, min)
    for y, x, c in outputs(i):
        values = read(before, i, "a", y // i.repeat_y, x // i.repeat_x, c)
        if i.operation:
            other = read(before, i, "b", y, x, c)
            values = [operations[i.operation](a, b) for a, b in zip(values, other, strict=True)]
        write(memory, i, y, x, c, epilogue(before, i, c, values))


DEFINITIONS = {"convolve": convolve, "pool": pool, "map": map_values}


def same(a, b):
    return all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for name in ("mantissas", "exponents", "panels", "panel_exponents", "vectors")
    )


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kind", DEFINITIONS)
def test_random_fields_give_the_bits_of_the_definition(kind, seed, filled, case):
    i = Instruction(kind, **case(kind, seed))
    operands = [FORMAT_NAMES[getattr(i, f"{view}_format")] for view in i.kind.views if view != "out"]
    weights = FORMAT_NAMES[i.weight_format] if kind == "convolve" else "bfp8"
    before = filled(operands, weights, seed)
    expected, found = copy.deepcopy(before), copy.deepcopy(before)
    DEFINITIONS[kind](expected, before, i)
    INSTRUCTIONS[kind](found, i)
    assert same(found, expected)
    assert not same(found, before)


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_random_fields_reach_every_choice(kind, case):
    """The cases above cover both states of each flag and each operation and activation."""
    found = [Instruction(kind, **case(kind, seed)) for seed in range(40)]
    flags = [f for f in found[0].kind.own if f.bits == 1 or f.name in ("operation", "activation")]
    for field in flags:
        expected = 2 if field.bits == 1 else field.limits[1] + 1
        assert len({getattr(i, field.name) for i in found}) == expected, field.name
