"""The matrix and the vector unit, each with the epilogue: whole instructions against the reference device."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring

from gatecast.devices.reference import Memory
from gatecast.isa import FORMAT_NAMES, Instruction, Program, View, architecture, encode, sum_steps
from gatecast.numerics import FORMATS
from gatecast.rtl.block_dot import BLOCK_BITS
from gatecast.rtl.epilogue import Epilogue
from gatecast.rtl.instructions import unit_words
from gatecast.rtl.lane import LaneDesign
from gatecast.rtl.matrix_unit import MatrixUnit
from gatecast.rtl.shared_memory import SharedMemory
from gatecast.rtl.vector_unit import VectorUnit

TINY = architecture("tiny")
REGION = 32
"""Blocks of each region of activation memory: the operands, then the results; vectors alike, by 16."""


class Engine(wiring.Component):
    """A unit, the epilogue and the memories, and other users that take turns from them."""

    def __init__(self, unit, values=TINY.epilogue_values):
        readers = ("other", *(("steps",) if unit == "matrix" else ()), "epilogue")
        self.blocks = SharedMemory(BLOCK_BITS, 128, readers, ("epilogue",))
        words = ("other", *(("partials",) if unit == "matrix" else ()), "epilogue")
        self.words = SharedMemory(128, 512, words, ("epilogue",))
        self.epilogue = Epilogue(values, 7, 9)
        if unit == "matrix":
            sizes = replace(TINY, epilogue_values=values, vector_values=values)
            self.unit = MatrixUnit(sizes, 7, 9, LaneDesign(7, TINY.max_interleave))
        else:
            self.unit = VectorUnit(7, 9)
        self.stall, self.vector_runs = Signal(), Signal(init=unit == "vector")
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        unit, epilogue, blocks, words = self.unit, self.epilogue, self.blocks, self.words
        m.submodules.blocks, m.submodules.words, m.submodules.unit = blocks, words, unit
        m.submodules.epilogue = epilogue
        ports = [
            (epilogue.read_blocks, blocks.read_epilogue),
            (epilogue.read_words, words.read_epilogue),
            (epilogue.write_blocks, blocks.write_epilogue),
            (epilogue.write_words, words.write_epilogue),
        ]
        if hasattr(unit, "read_steps"):
            ports += [(unit.read_steps, blocks.read_steps), (unit.read_partials, words.read_partials)]
            ports += [(unit.epilogue, epilogue.matrix), (unit.sums, epilogue.sums)]
        else:
            ports += [(unit.epilogue, epilogue.vector)]
        for inner, outer in ports:
            wiring.connect(m, inner, outer)
        m.d.comb += [
            blocks.read_other.valid.eq(self.stall),
            words.read_other.valid.eq(self.stall),
            epilogue.vector_runs.eq(self.vector_runs),
        ]
        return m


def filled(rng, formats, weight_format):
    memory = Memory(Program(TINY, ()))
    memory.mantissas, memory.exponents = blocks(rng, formats, REGION)
    memory.panels, memory.panel_exponents = blocks(rng, [weight_format], 24 * 32)
    memory.panels = memory.panels.reshape(24, 32, 32)
    memory.panel_exponents = memory.panel_exponents.reshape(24, 32)
    memory.vectors = rng.normal(size=(64, 32)).astype(np.float32)
    memory.vectors[rng.random(memory.vectors.shape) < 0.1] = 0
    return memory


def blocks(rng, names, count):
    found, exponents = [], 127 + rng.integers(-6, 7, count * len(names))
    for name in names:
        limit = FORMATS[name].mantissa_max if name in FORMATS else 1
        part = rng.integers(-limit, limit + 1, (count, 32))
        part[rng.random(part.shape) < 0.2] = limit
        part[rng.random(count) < 0.1] = 0
        found.append(part.astype(np.int8))
    return np.concatenate(found), exponents.astype(np.uint8)


def aligned(mantissas, exponent, name):
    bits = FORMATS[name].bits if name in FORMATS else 8
    return int.from_bytes((mantissas << 8 - bits).astype(np.int8).tobytes() + bytes([exponent]), "little")


def view(name, region, fmt, size, blocks_):
    place = 16 * region if fmt == "float32" else REGION * region
    return View(place, fmt, size * blocks_, blocks_).fields(name)


def pick(rng, *options):
    return options[rng.integers(len(options))]


def window(rng):
    kernel = [int(v) for v in rng.integers(1, 4, 2)]
    return {
        "in_rows": 3,
        "in_columns": 3,
        "in_y": -int(rng.integers(0, kernel[0])),
        "in_x": -int(rng.integers(0, kernel[1])),
        "kernel_rows": kernel[0],
        "kernel_columns": kernel[1],
        "stride_y": int(rng.integers(1, 3)),
        "stride_x": int(rng.integers(1, 3)),
    }


FORMS = (*FORMATS, "float32")


def affine(rng):
    scale = {"has_scale": 1, "scale": 50, "shift": 52} if rng.random() < 0.5 else {}
    activation = pick(rng, 0, 1, 2)
    return scale | {"activation": activation} | ({"low": -0.5, "high": 1.25} if activation == 2 else {})


def convolve(rng):
    in_blocks, out_blocks, group = pick(rng, (1, 2, 0), (2, 1, 0), (1, 2, 1), (1, 1, 0))
    fields = window(rng) | {"in_blocks": in_blocks, "group_blocks": group, "weights": int(rng.integers(24))}
    while fields["kernel_rows"] * fields["kernel_columns"] * in_blocks * out_blocks > 12:
        fields |= {"kernel_rows": 1, "in_y": 0}
    stored = in_blocks * (out_blocks if group else 1)
    fields |= view("in", 0, pick(rng, *FORMATS), 3, stored)
    fields |= {
        "out_rows": int(rng.integers(1, 3)),
        "out_columns": int(rng.integers(1, 4)),
        "out_blocks": out_blocks,
    }
    fields |= {"dilation_y": pick(rng, 1, 2), "interleave": pick(rng, 0, 1, 3, 7)}
    fields |= {"weight_format": pick(rng, *FORMATS), "resume": pick(rng, 0, 0, 1), "partials": 32}
    if rng.random() < 0.2:
        return fields | {"suspend": 1}
    fields |= affine(rng) | view("out", 2, pick(rng, *FORMS), 3, out_blocks)
    fields |= {"has_bias": 1, "bias": 54} if rng.random() < 0.5 else {}
    residual = view("residual", 1, pick(rng, *FORMS), 3, out_blocks) if rng.random() < 0.5 else {}
    return fields | residual | {"last_channels": pick(rng, 32, 10)}


def pool(rng):
    fields, average = window(rng), int(rng.integers(2))
    fields |= {"out_rows": 1, "out_columns": 2, "out_blocks": 2, "stride_x": 1, "in_y": 0}
    fields |= view("in", 0, pick(rng, *FORMATS), 3, 2) | view("out", 2, pick(rng, *FORMS), 2, 2)
    return fields | {"operation": average} | ({"factor": 1 / 9} if average else {})


def map_(rng):
    operation = int(rng.integers(6))
    fields = affine(rng) | view("out", 2, pick(rng, *FORMS), 3, 2)
    fields |= view("a", 0, pick(rng, *FORMS), 3, 2)
    if operation:
        fields |= view("b", 1, pick(rng, *FORMS), 3, 2)
    if rng.random() < 0.6:
        activation = pick(rng, 3, 4, 5)
        fields |= {"activation": activation, "low": 0.2, "high": 0.0 if activation == 3 else 0.5}
    fields |= {"operation": operation, "repeat_y": pick(rng, 1, 2), "repeat_x": pick(rng, 1, 2)}
    return fields | {"out_rows": 2, "out_columns": 3, "out_blocks": 2, "last_channels": pick(rng, 32, 7)}


CASES = {"convolve": convolve, "pool": pool, "map": map_}
UNIT = {"convolve": "matrix", "pool": "vector", "map": "vector"}
VIEWS = {
    "convolve": ("in_format", "residual_format"),
    "pool": ("in_format",),
    "map": ("a_format", "b_format"),
}


async def fill(ctx, engine, instruction, memory, formats, weight_format):
    """Write all of both memories, and the panels that the instruction takes."""
    for address, (mantissas, exponent) in enumerate(zip(memory.mantissas, memory.exponents, strict=True)):
        code = aligned(mantissas, exponent, formats[address // REGION])
        ctx.set(engine.blocks.data[address], code)
    for address, word in enumerate(memory.vectors.reshape(-1, 4)):
        ctx.set(engine.words.data[address], int.from_bytes(word.tobytes(), "little"))
    if not hasattr(engine.unit, "written"):
        return
    for number, channel in np.ndindex(sum_steps(instruction) * instruction.out_blocks, 32):
        panel = (instruction.weights + number) % 24
        code = aligned(memory.panels[panel, channel], memory.panel_exponents[panel, channel], weight_format)
        place = {"enable": 1, "lane": channel % 4, "address": panel * 8 + channel // 4}
        for high in range(2):
            half, exponent = code >> 128 * high & (1 << 128) - 1, code >> 256
            ctx.set(engine.unit.written, {**place, "high": high, "half": half, "exponent": exponent})
            await ctx.tick()
    ctx.set(engine.unit.written, {"enable": 0})
    await ctx.tick().repeat(3)


async def shake(ctx, engine):
    """Grant the epilogue to the other unit for a while, and back, as a `sync` there does."""
    ours = ctx.get(engine.vector_runs)
    for owner in (~ours & 1, ours):
        ctx.set(engine.vector_runs, owner)
        await ctx.tick().repeat(2)


async def run(ctx, engine, instruction, words, stall):
    code = int.from_bytes(encode(instruction), "little") & (1 << 32 * words) - 1
    ctx.set(engine.unit.instruction, code)
    await shake(ctx, engine)
    ctx.set(engine.unit.start, 1)
    await ctx.tick()
    ctx.set(engine.unit.start, 0)
    while not ctx.get(engine.unit.done):
        ctx.set(engine.stall, stall.random() < 0.3)
        await ctx.tick()
    await ctx.tick().repeat(2)


def random_case(kind, seed):
    """An instruction, memories for it, and the formats of their regions and of the weights."""
    rng = np.random.default_rng(100 + seed)
    instruction = Instruction(kind, **CASES[kind](rng))
    formats = ["bfp8"] * 4
    for region, name in enumerate(VIEWS[kind]):
        formats[region] = FORMAT_NAMES[getattr(instruction, name)]
    formats[2] = FORMAT_NAMES[instruction.out_format]
    weight_format = FORMAT_NAMES[instruction.weight_format] if kind == "convolve" else "bfp8"
    return instruction, filled(rng, formats, weight_format), formats, weight_format


SEEDS = {"convolve": (2, 3, 5, 6, 22, 56), "pool": range(1, 7), "map": range(1, 7)}
"""Those of `convolve` are small, and have partial sums in and out, groups, float32, all of the epilogue."""
ONE = [pytest.param(kind, (0,), 2, id=kind) for kind in CASES]
MORE = [
    pytest.param(kind, SEEDS[kind], values, id=f"{kind}s-{values}", marks=pytest.mark.slow)
    for kind in CASES
    for values in (1, 2, 4)
]


@pytest.mark.parametrize(("kind", "seeds", "values"), ONE + MORE)
def test_random_instructions(simulate, kind, seeds, values):
    """Every word of both memories is compared, those beside the results too. Other users take turns."""
    engine = Engine(UNIT[kind], values)

    async def bench(ctx):
        for seed in seeds:
            instruction, memory, formats, weight_format = random_case(kind, seed)
            await fill(ctx, engine, instruction, memory, formats, weight_format)
            await run(ctx, engine, instruction, unit_words(UNIT[kind]), np.random.default_rng(seed))
            engine.unit.model(memory, instruction)
            expected = [
                aligned(m, e, formats[a // REGION])
                for a, (m, e) in enumerate(zip(memory.mantissas, memory.exponents, strict=True))
            ]
            assert [ctx.get(engine.blocks.data[a]) for a in range(128)] == expected, seed
            words = b"".join(ctx.get(engine.words.data[a]).to_bytes(16, "little") for a in range(512))
            assert words == memory.vectors.tobytes(), seed

    simulate(engine, bench, deadline=40_000 * len(seeds))


def test_the_first_instruction_after_a_reset_takes_nothing_before_its_operands(simulate):
    engine, rng, formats = Engine("vector"), np.random.default_rng(1), ["bfp4", "bfp8", "bfp8", "bfp8"]
    fields = {
        "in_rows": 2,
        "in_columns": 1,
        "kernel_rows": 2,
        "out_rows": 1,
        "out_columns": 1,
        "out_blocks": 1,
    }
    views = view("in", 0, "bfp4", 1, 1) | view("out", 2, "bfp8", 1, 1)
    average = Instruction("pool", operation=1, factor=0.5, **views, **fields)
    memory = filled(rng, formats, "bfp8")

    async def bench(ctx):
        await fill(ctx, engine, average, memory, formats, "bfp8")
        await run(ctx, engine, average, unit_words("vector"), rng)
        engine.unit.model(memory, average)
        found = ctx.get(engine.blocks.data[2 * REGION])
        assert found == aligned(memory.mantissas[2 * REGION], memory.exponents[2 * REGION], "bfp8")

    simulate(engine, bench)
