"""Load, store and weights units: bytes at any address, every format, against the reference device."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring

from gatecast.devices.reference import Memory
from gatecast.isa import Instruction, Program, Section, View, architecture, encode
from gatecast.numerics import FORMATS
from gatecast.rtl.load_unit import LoadUnit
from gatecast.rtl.reader import Reader
from gatecast.rtl.store_unit import StoreUnit
from gatecast.rtl.weights_unit import WeightsUnit

TINY, BASE = architecture("tiny"), 64
STALLS = pytest.mark.parametrize("stall", [0.0, 0.5], ids=["free-running", "back-pressure"])
NAMES = (*FORMATS, "float32")


def external(rng, name, rows, columns, blocks):
    """A map at odd places: pixels of one block more than is moved, rows apart."""
    pitch, size = blocks + 1, 128 if name == "float32" else FORMATS[name].block_bytes
    row = columns * pitch * size + 4 * int(rng.integers(0, 5))
    fields = {"offset": 4 * int(rng.integers(0, 10)), "row_pitch": row, "pixel_pitch": pitch}
    if name != "float32":
        fields |= {"exponents": rows * row + 77, "exponent_pitch": columns * pitch + 3}
    return fields


def aligned(mantissas, exponent, bits):
    return int.from_bytes((mantissas << 8 - bits).astype(np.int8).tobytes() + bytes([exponent]), "little")


def reference(name):
    memory, rng = Memory(Program(TINY, ())), np.random.default_rng(9)
    limit = FORMATS[name].mantissa_max if name in FORMATS else 1
    memory.mantissas = rng.integers(-limit, limit + 1, (128, 32)).astype(np.int8)
    memory.exponents = rng.integers(79, 176, 128).astype(np.uint8)
    memory.panels, memory.panel_exponents = np.zeros((24, 32, 32), np.int8), np.zeros((24, 32), np.uint8)
    memory.vectors = rng.normal(size=(64, 32)).astype(np.float32)
    return memory


class Reading(wiring.Component):
    """A unit that reads, and its reader."""

    def __init__(self, unit):
        self.unit, self.reader = unit, Reader({"unit": unit.tag.size})
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit, m.submodules.reader = self.unit, self.reader
        wiring.connect(m, self.unit.ask, self.reader.unit_ask)
        wiring.connect(m, self.reader.unit_found, self.unit.found)
        return m


async def start(ctx, unit, instruction):
    words = len(unit.instruction)
    ctx.set(unit.section, BASE)
    ctx.set(unit.instruction, int.from_bytes(encode(instruction), "little") & (1 << words) - 1)
    await ctx.tick()
    ctx.set(unit.start, 1)
    await ctx.tick()
    ctx.set(unit.start, 0)
    while not ctx.get(unit.done):
        await ctx.tick()
    await ctx.tick().repeat(2)


def taker(port, found, stall, rng):
    """Take what a unit writes on chip, as a dict by address."""

    async def body(ctx):
        while True:
            ready = rng.random() >= stall
            ctx.set(port.ready, ready)
            if ready and ctx.get(port.valid):
                found[ctx.get(port.address)] = ctx.get(port.data)
            await ctx.tick()

    return body


def words_of(memory, words):
    """What vector memory holds when `words` have been written into that of `memory`."""
    content = memory.vectors.reshape(-1, 4).copy()
    for address, word in words.items():
        content[address] = np.frombuffer(word.to_bytes(16, "little"), np.float32)
    return content.reshape(-1, 32)


@STALLS
@pytest.mark.parametrize("name", NAMES)
def test_load(simulate, external_memory, name, stall):
    rng, memory = np.random.default_rng(len(name)), reference(name)
    place = View(2, name, 13, 4).fields("out") | {"out_rows": 2, "out_columns": 2, "out_blocks": 2}
    instruction = Instruction("load", section=2, **place, **external(rng, name, 2, 2, 2))
    content = rng.integers(0, 256, 2048, np.uint8)
    unit, blocks, words = LoadUnit(7, 9), {}, {}
    host = external_memory(bytes(BASE) + content.tobytes(), stall)
    background = [
        taker(port, f, stall, rng) for port, f in ((unit.write_blocks, blocks), (unit.write_words, words))
    ]

    async def bench(ctx):
        await start(ctx, unit, instruction)

    both = Reading(unit)
    serve = host.serve(both.reader.request, both.reader.response)
    simulate(both, bench, background=[*background, serve])
    before = words_of(memory, {})
    memory.sections[Section.INPUTS] = content
    unit.model(memory, instruction)
    if name == "float32":
        assert not blocks
        memory_before = reference(name)
        memory_before.vectors = before
        assert words_of(memory_before, words).tobytes() == memory.vectors.tobytes()
        return
    bits, places = (
        FORMATS[name].bits,
        [2 + y * 13 + x * 4 + c for y in range(2) for x in range(2) for c in range(2)],
    )
    assert blocks == {a: aligned(memory.mantissas[a], memory.exponents[a], bits) for a in places}
    assert not words


@STALLS
@pytest.mark.parametrize("name", NAMES)
def test_store(simulate, external_memory, name, stall):
    rng, memory = np.random.default_rng(len(name)), reference(name)
    place = View(1, name, 9, 3).fields("in") | {"in_rows": 2, "in_columns": 2, "in_blocks": 2}
    instruction = Instruction("store", section=3, **place, **external(rng, name, 2, 2, 2))
    unit, content = StoreUnit(7, 9), rng.integers(0, 256, 2048, np.uint8)
    host = external_memory(bytes(BASE) + content.tobytes(), stall)

    def answers(port, value):
        async def body(ctx):
            line = [None, None]
            while True:
                ready = rng.random() >= stall
                ctx.set(port.ready, ready)
                line.append(ctx.get(port.address) if ready and ctx.get(port.valid) else None)
                answered = line.pop(0)
                ctx.set(port.answered, answered is not None)
                ctx.set(port.data, 0 if answered is None else value(answered))
                await ctx.tick()

        return body

    def block(address):
        bits = FORMATS[name].bits if name in FORMATS else 8
        return aligned(memory.mantissas[address], memory.exponents[address], bits)

    def word(address):
        return int.from_bytes(memory.vectors.reshape(-1, 4)[address].tobytes(), "little")

    async def bench(ctx):
        await start(ctx, unit, instruction)
        await ctx.tick().repeat(4)

    ports = [answers(unit.read_blocks, block), answers(unit.read_words, word)]
    simulate(unit, bench, background=[*ports, host.serve(unit.request, None)])
    memory.sections[Section.OUTPUTS] = content
    unit.model(memory, instruction)
    assert host.bytes[BASE:] == memory.sections[Section.OUTPUTS].tobytes()


@STALLS
@pytest.mark.parametrize("name", NAMES)
def test_weights_and_constants(simulate, external_memory, name, stall):
    """Panels wrap."""
    rng, memory = np.random.default_rng(len(name)), reference(name)
    if name == "float32":
        instruction = Instruction("constants", offset=96, address=5, count=3)
    else:
        instruction = Instruction("weights", format=name, offset=32, address=23, count=2)
    lanes = 8
    layout = data.StructLayout(
        {"enable": 1, "lane": range(lanes), "address": range(24 * 4), "high": 1, "half": 128, "exponent": 8}
    )
    unit, content, words, panels = (
        WeightsUnit(layout, lanes, 24, 9),
        rng.integers(0, 256, 2400, np.uint8),
        {},
        {},
    )
    host = external_memory(bytes(BASE) + content.tobytes() + bytes(32), stall)

    async def watch(ctx):
        while True:
            if ctx.get(unit.written.enable):
                place = ctx.get(unit.written.address), ctx.get(unit.written.lane)
                half, exponent = ctx.get(unit.written.half), ctx.get(unit.written.exponent)
                if ctx.get(unit.written.high):
                    panels[place] |= half << 128 | exponent << 256
                else:
                    panels[place] = half
            await ctx.tick()

    async def bench(ctx):
        await start(ctx, unit, instruction)

    both = Reading(unit)
    serve = host.serve(both.reader.request, both.reader.response)
    simulate(both, bench, background=[watch, taker(unit.write_words, words, stall, rng), serve])
    vectors = words_of(memory, words)
    memory.sections[Section.WEIGHTS] = content
    unit.model(memory, instruction)
    assert vectors.tobytes() == memory.vectors.tobytes()
    expected = {}
    for panel, channel in np.ndindex(2, 32) if name != "float32" else ():
        at = (23 + panel) % 24
        code = aligned(memory.panels[at, channel], memory.panel_exponents[at, channel], FORMATS[name].bits)
        expected[at * 4 + channel // lanes, channel % lanes] = code
    assert panels == expected
