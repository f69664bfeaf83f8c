"""Programs around one instruction with random fields, small enough for architecture `tiny`.

`random_program(kind, seed)` loads operands of random formats from maps larger than the views, runs one
instruction (a convolution that resumes after one that suspends), and stores what it made. All of it is
verified, so what a device returns is defined.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np

from gatecast.errors import ProgramError
from gatecast.isa import (
    UNITS,
    Architecture,
    Instruction,
    MapOperation,
    Port,
    Program,
    Section,
    View,
    architecture,
    pack_inputs,
    unit_of,
    verify,
)
from gatecast.numerics import FORMATS, pack

TINY = architecture("tiny")
KINDS = ("convolve", "pool", "map", "copies")
F32 = "float32"


@dataclass
class Builder:
    """Text so far, and the next free place of each memory."""

    rng: np.random.Generator
    sizes: Architecture = TINY
    text: list[Instruction] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    weights: bytes = b""
    blocks: int = 0
    vectors: int = 0

    def pick(self, *options):
        return options[int(self.rng.integers(len(options)))]

    def number(self, low, high):
        """An integer from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability):
        return bool(self.rng.random() < probability)

    def view(self, shape, name):
        """Room for a map on chip, with gaps between pixels, rows and maps at times."""
        rows, columns, blocks = shape
        pixel = blocks + self.pick(0, 0, 1, 2)
        row = columns * pixel + self.pick(0, 0, 1)
        size = (rows - 1) * row + (columns - 1) * pixel + blocks + self.pick(0, 0, 3)
        memory = "vectors" if name == F32 else "blocks"
        address = getattr(self, memory)
        setattr(self, memory, address + size)
        return View(address, name, row, pixel)

    def values(self, *shape):
        """Numbers of many sizes: blocks of about one, blocks of extremes, zeros, ties, whole zero blocks."""
        values = self.rng.normal(size=shape)
        values *= np.exp2(self.pick(0, 0, 0, 40) * self.rng.uniform(-1, 1, (*shape[:2], 1)))
        values[self.rng.random(shape) < 0.1] = 0
        tie = self.rng.random(shape) < 0.1
        values[tie] = np.round(values[tie] * 64) / 64 + 1 / 128
        values[self.rng.random(shape[:2]) < 0.1] = 0
        return values.astype(np.float32)

    def load(self, stem, shape, name):
        """Load a part of an input map into a view; return its fields."""
        rows, columns, blocks = shape
        top, left, first = self.pick(0, 0, 1), self.pick(0, 0, 1), self.pick(0, 0, 1)
        whole = (top + rows, left + columns + self.pick(0, 1), (first + blocks + self.pick(0, 1)) * 32)
        offset = self.inputs[-1].end if self.inputs else 0
        port = Port.packed(f"x{len(self.inputs)}", whole, name, offset)
        self.inputs.append(port)
        self.tensors[port.name] = self.values(*whole)
        view = self.view(shape, name)
        size = 128 if name == F32 else FORMATS[name].block_bytes
        start = left * port.pixel_pitch + first
        planes = {"offset": port.offset + top * port.row_pitch + start * size, "row_pitch": port.row_pitch}
        if name != F32:
            planes["exponents"] = port.exponents + top * port.exponent_pitch + start
            planes["exponent_pitch"] = port.exponent_pitch
        extent = {"out_rows": rows, "out_columns": columns, "out_blocks": blocks}
        self.add("load", section=Section.INPUTS, **planes, pixel_pitch=port.pixel_pitch,
                 **view.fields("out"), **extent)  # fmt: skip
        return view.fields(stem)

    def constants(self, count, low=-80, high=64):
        """Load vectors of 2**low to 2**high, or near 1; return the address of the first one."""
        low, high = self.pick((low, high), (-2, 2))
        values = np.exp2(self.rng.uniform(low, high, (count, 32))) * self.rng.choice([-1, 1], (count, 32))
        values[self.rng.random(values.shape) < 0.1] = 0
        offset, self.weights = len(self.weights), self.weights + values.astype("<f4").tobytes()
        address, self.vectors = self.vectors, self.vectors + count
        self.add("constants", section=Section.WEIGHTS, offset=offset, address=address, count=count)
        return address

    def scale(self, blocks):
        """Fields of scale and shift, or none."""
        if not self.chance(0.5):
            return {}
        return {"has_scale": 1, "scale": self.constants(blocks, -16, 8), "shift": self.constants(blocks)}

    def panels(self, count, name):
        """Load panels somewhere into weight memory, around its end at times; return the first one."""
        fmt = FORMATS[name]
        limit = fmt.mantissa_max
        mantissas = self.rng.integers(-limit, limit + 1, (count, 32, 32))
        mantissas[self.rng.random(mantissas.shape) < 0.2] = limit
        mantissas[self.rng.random((count, 32)) < 0.1] = 0
        spread = self.pick(2, 2, 48)
        exponents = 127 + self.rng.integers(-spread, spread + 1, (count, 32))
        codes = pack(mantissas.astype(np.int8), fmt).reshape(count, -1)
        content = np.concatenate([codes, exponents.astype(np.uint8)], axis=1).tobytes()
        offset, self.weights = len(self.weights), self.weights + content
        address = self.number(0, self.sizes.weight_panels - 1)
        place = {"offset": offset, "address": address, "count": count}
        self.add("weights", section=Section.WEIGHTS, format=name, **place)
        return address

    def add(self, kind, **fields):
        self.text.append(Instruction(kind, **fields))
        return self.text[-1]

    def program(self, view, shape):
        """Store the result, and link the units: each waits for what the text says before it."""
        rows, columns, blocks = shape
        port = Port.packed("y", (rows, columns, blocks * 32), view.format)
        self.add(
            "store", section=Section.OUTPUTS, offset=port.offset, row_pitch=port.row_pitch,
            exponents=port.exponents, exponent_pitch=port.exponent_pitch, pixel_pitch=port.pixel_pitch,
            **view.fields("in"), in_rows=rows, in_columns=columns, in_blocks=blocks,
        )  # fmt: skip
        for _ in range(self.pick(0, 0, 1, 2)):
            sync = Instruction("sync", unit=self.pick(*UNITS))
            self.text.insert(self.number(0, len(self.text)), sync)
        text = (*linked(self.text), Instruction("end"))
        ports = {"inputs": tuple(self.inputs), "outputs": (port,)}
        return Program(self.sizes, text, weights=self.weights, layers=("random",), **ports)


def linked(text):
    """The text with a wait where the unit changes, and a drain where it does not: one after the other."""
    units = [unit_of(instruction) for instruction in text]
    linked = []
    for number, instruction in enumerate(text):
        before = units[number - 1 : number] if number else []
        after = [unit for unit in units[number + 1 : number + 2] if unit != units[number]]
        linked.append(instruction.replace(wait=before, signal=after))
    return linked


def outputs_of(shape):
    """Fields of so many rows, columns and blocks of results."""
    return dict(zip(("out_rows", "out_columns", "out_blocks"), shape, strict=True))


def view_of(fields, stem):
    """The view of fields that `Builder.load` returned."""
    return View(*(fields[f"{stem}_{part}"] for part in ("address", "format", "row", "pixel")))


def window(b):
    rows, columns = b.number(1, 3), b.number(1, 3)
    return {
        "in_rows": b.number(2, 5), "in_columns": b.number(2, 5),
        "in_y": -b.number(0, rows - 1), "in_x": -b.number(0, columns - 1),
        "kernel_rows": rows, "kernel_columns": columns,
        "stride_y": b.number(1, 2), "stride_x": b.number(1, 2),
    }  # fmt: skip


def most(fields, axis, part):
    """As many outputs as leave each window at least one position inside."""
    return min(4, (fields[f"in_{part}"] - 1 - fields[f"in_{axis}"]) // fields[f"stride_{axis}"] + 1)


def limits(b, *activations):
    activation = b.pick(*activations)
    low, high = {0: (0, 0), 1: (0, 0), 2: (-0.5, 1.25), 3: (0.1, 0), 4: (0.2, 0.5), 5: (1 / 6, 0.5)}[
        activation
    ]
    return {"activation": activation, "low": low, "high": high}


def convolve(b):
    fields = window(b) | {"dilation_y": b.pick(1, 1, 2), "dilation_x": b.pick(1, 1, 2)}
    group, in_blocks, out_blocks = b.pick(0, 0, 1, 2), b.number(1, 2), b.number(1, 3)
    taps = fields["kernel_rows"] * fields["kernel_columns"]
    resume = b.chance(0.3)
    if taps * in_blocks * out_blocks * (1 + resume) > TINY.weight_panels:
        in_blocks = out_blocks = 1
    shape = (min(most(fields, "y", "rows"), b.number(1, 4)), most(fields, "x", "columns"), out_blocks)
    return convolution(b, fields, group, in_blocks, shape, resume)


def convolution(b, fields, group, in_blocks, shape, resume):
    """One with this window and shape of its outputs; before it one that suspends, if it resumes."""
    out_blocks = shape[2]
    panels = fields["kernel_rows"] * fields["kernel_columns"] * in_blocks * out_blocks
    stored = in_blocks * (-(-out_blocks // group) if group else 1)
    name = b.pick(*FORMATS)
    fields |= b.load("in", (fields["in_rows"], fields["in_columns"], stored), name)
    fields |= {"in_blocks": in_blocks, "group_blocks": group, "weight_format": b.pick(*FORMATS)}
    fields |= outputs_of(shape)
    fields["interleave"] = b.pick(0, 0, 1, 3, b.sizes.max_interleave)
    suspends = b.chance(0.15)
    if resume or suspends:
        fields["partials"], b.vectors = b.vectors, b.vectors + int(np.prod(shape))
    if resume:
        first = b.panels(panels, fields["weight_format"])
        b.add("convolve", **fields, weights=first, suspend=1)
    if suspends:
        epilogue, view = {"suspend": 1}, View(fields["partials"], F32, shape[1] * out_blocks, out_blocks)
    else:
        view = b.view(shape, b.pick(F32, *FORMATS))
        epilogue = view.fields("out") | convolve_epilogue(b, shape)
    weights = b.panels(panels, fields["weight_format"])
    b.add("convolve", **fields, **epilogue, weights=weights, resume=int(resume))
    return view, shape


def convolve_epilogue(b, shape):
    fields = b.scale(shape[2]) | limits(b, 0, 1, 2) | {"last_channels": b.pick(32, 32, b.number(1, 31))}
    if b.chance(0.5):
        fields |= {"has_bias": 1, "bias": b.constants(shape[2])}
    if b.chance(0.5):
        fields |= b.load("residual", shape, b.pick(F32, *FORMATS))
    return fields


def pool(b):
    fields, operation = window(b), b.pick(0, 1)
    shape = (most(fields, "y", "rows"), most(fields, "x", "columns"), b.number(1, 2))
    name = b.pick(*FORMATS) if operation else b.pick(F32, *FORMATS)
    fields |= b.load("in", (fields["in_rows"], fields["in_columns"], shape[2]), name)
    view = b.view(shape, b.pick(F32, *FORMATS))
    fields |= outputs_of(shape)
    b.add("pool", operation=operation, **fields, **view.fields("out"), factor=b.pick(1 / 9, 0.25) * operation)
    return view, shape


def map_values(b):
    shape = (b.number(1, 4), b.number(1, 4), b.number(1, 3))
    operation, up, across = b.number(0, 5), b.pick(1, 2, 3), b.pick(1, 2)
    multiply = operation == MapOperation.MULTIPLY
    names = FORMATS if multiply else (F32, *FORMATS)
    name = b.pick(*names)
    fields = b.load("a", (-(-shape[0] // up), -(-shape[1] // across), shape[2]), name)
    if operation:
        one = b.chance(0.3)  # one pixel for all
        fields |= b.load("b", (1, 1, shape[2]) if one else shape, b.pick(*names))
        fields |= {"b_row": 0, "b_pixel": 0} if one else {}
    fields |= b.scale(shape[2])
    plain = (multiply and "has_scale" in fields) or (not operation and name == F32)
    fields |= limits(b, *(range(3) if plain else range(6)))
    view = b.view(shape, b.pick(F32, *FORMATS))
    fields |= outputs_of(shape)
    fields["last_channels"] = b.pick(32, 32, b.number(1, 31))
    b.add("map", operation=operation, repeat_y=up, repeat_x=across, **fields, **view.fields("out"))
    return view, shape


def copies(b):
    """Load and store alone."""
    shape = (b.number(1, 5), b.number(1, 4), b.number(1, 3))
    name = b.pick(F32, *FORMATS)
    fields = b.load("out", shape, name)
    return view_of(fields, "out"), shape


MAKERS = {"convolve": convolve, "pool": pool, "map": map_values, "copies": copies}


def random_program(kind, seed):
    """A verified Program of about one instruction of this kind, and a section `inputs` for it."""
    return verified_program(Builder, MAKERS[kind], seed)


def verified_program(builder, make, seed):
    """The first Program of a seed that keeps the rules, and a section `inputs` for it.

    `builder` takes a generator of random numbers; `make` builds, and returns the results' view and shape.
    """
    for attempt in itertools.count():
        b = builder(np.random.default_rng([seed, attempt]))
        program = b.program(*make(b))
        try:
            verify(program)
        except ProgramError as error:
            if not any(text in str(error) for text in MAY_HAPPEN):
                raise
            continue
        return program, pack_inputs(program, b.tensors)


MAY_HAPPEN = (
    "memory, not reach",  # it does not fit
    "must lie within",
)
