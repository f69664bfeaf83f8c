"""Instruction fetch: random texts to their units, and texts that are refused, each for its reason."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Value

from gatecast.isa import INSTRUCTION_BYTES, KINDS, UNITS, architecture, format_code
from gatecast.rtl.fetch import Fetch
from gatecast.rtl.instructions import BEAT_WORDS, unit_beats, unit_words
from gatecast.rtl.refusal import field_values, refusal
from gatecast.rtl.registers import Reason

NARROW = replace(architecture("tiny"), max_activation_bits=6, max_weight_bits=5)
STALLS = pytest.mark.parametrize("stall", [0.0, 0.6], ids=["free-running", "back-pressure"])
BY_NAME = {kind.name: kind for kind in KINDS}
OTHERS = [kind.name for kind in KINDS if kind.name != "end"]


def code_of(rng, name, **values):
    """An instruction with random bits wherever its kind has a field, 0 for what makes an NPU refuse it."""
    kind = BY_NAME[name]
    harmless = {"opcode": kind.opcode, "unit": int(rng.integers(5)), "split": 0, "interleave": 7}
    harmless |= {"operation": int(rng.integers(2)), "activation": int(rng.integers(3))}
    words = 0
    for place in kind.layout:
        field = place.field
        value = int(rng.integers(1 << field.bits))
        if field.name.endswith("format"):
            value = format_code(str(rng.choice(["bfp4", "bfp5"])))
        value = values.get(field.name, harmless.get(field.name, value))
        words |= value << 32 * place.word + place.bit
    beyond = rng.integers(0, 256, INSTRUCTION_BYTES, np.uint8).tobytes()[4 * kind.words :]
    return words.to_bytes(4 * kind.words, "little") + beyond


def text_of(rng, length):
    return [code_of(rng, str(rng.choice(OTHERS))) for _ in range(length)] + [code_of(rng, "end")]


def instructions(unit, beats):
    """Numbers and words of what a unit was handed, put together from its beats."""
    size, found = unit_beats(unit), []
    for start in range(0, len(beats), size):
        whole = sum(beat << 32 * BEAT_WORDS * n for n, beat in enumerate(beats[start : start + size]))
        number = whole >> 32 * (BEAT_WORDS * size - 1)
        found.append((number, whole % (1 << 32 * unit_words(unit))))
    return found


def expected(unit, text, count):
    """The model's word; each unit gets as many words as its longest instruction has."""
    handed, reason, number = unit.model(b"".join(text), count)
    whole = {
        name: [(n, int.from_bytes(code[: 4 * unit_words(name)], "little")) for n, code in found]
        for name, found in handed.items()
    }
    return whole, reason, number


def run(simulate, external_memory, unit, texts, stall, seed=0):
    """Fetch texts one after another; list what each handed out, its reason and the number it stopped at."""
    rng, found = np.random.default_rng(seed), []
    places, content = [], bytes(48)
    for text, _ in texts:
        places.append(len(content))
        content += b"".join(text) + bytes(16)
    memory = external_memory(content + bytes(INSTRUCTION_BYTES), stall, seed)

    async def bench(ctx):
        for place, (_, count) in zip(places, texts, strict=True):
            handed = {name: [] for name in UNITS}
            ctx.set(unit.text, place)
            ctx.set(unit.count, count)
            ctx.set(unit.start, 1)
            await ctx.tick()
            ctx.set(unit.start, 0)
            while not ctx.get(unit.ended):
                await take(ctx, handed)
            for _ in range(20):  # nothing comes behind the end
                await take(ctx, handed)
            whole = {name: instructions(name, beats) for name, beats in handed.items()}
            found.append((whole, ctx.get(unit.reason), ctx.get(unit.number)))

    async def take(ctx, handed):
        for name in UNITS:
            port = getattr(unit, name)
            ready = rng.random() >= stall
            ctx.set(port.ready, ready)
            if ready and ctx.get(port.valid):
                handed[name].append(ctx.get(Value.cast(port.payload)))
        await ctx.tick()

    simulate(unit, bench, background=[memory.serve(unit.request, unit.response)])
    return found


@STALLS
@pytest.mark.parametrize("sizes", [architecture("tiny"), NARROW], ids=["tiny", "narrow"])
def test_each_unit_gets_its_instructions_in_order(simulate, external_memory, sizes, stall):
    rng, unit = np.random.default_rng(sizes.max_weight_bits), Fetch(sizes)
    texts = [(text_of(rng, 12), 100), (text_of(rng, 0), 1), (text_of(rng, 5), 6), (text_of(rng, 6), 4)]
    texts.append((text_of(rng, 3), 0))
    found = run(simulate, external_memory, unit, texts, stall)
    assert found == [expected(unit, text, count) for text, count in texts]
    assert [reason for _, reason, _ in found] == [0, 0, 0, Reason.NO_END, Reason.NO_END]
    assert [number for _, _, number in found] == [12, 0, 5, 4, 0]
    assert [sum(map(len, handed.values())) for handed, _, _ in found] == [12, 0, 5, 4, 0]


F32, NONE, BFP6, BFP7, UNKNOWN = format_code("float32"), 0, format_code("bfp6"), format_code("bfp7"), 7
REFUSED = [
    ("end", {"opcode": 9}, Reason.OPCODE),
    ("load", {"opcode": 255}, Reason.OPCODE),
    ("sync", {"unit": 5}, Reason.OPCODE),
    ("load", {"out_format": BFP7}, Reason.FORMAT),
    ("load", {"out_format": NONE}, Reason.FORMAT),
    ("store", {"in_format": 15}, Reason.FORMAT),
    ("weights", {"format": BFP6}, Reason.FORMAT),
    ("weights", {"format": F32}, Reason.FORMAT),
    ("convolve", {"in_format": F32}, Reason.FORMAT),
    ("convolve", {"weight_format": BFP6}, Reason.FORMAT),
    ("convolve", {"out_format": NONE, "suspend": 0}, Reason.FORMAT),
    ("convolve", {"residual_format": BFP7}, Reason.FORMAT),
    ("convolve", {"residual_format": UNKNOWN, "split": 1}, Reason.FORMAT),
    ("convolve", {"split": 4, "interleave": 63}, Reason.SPLIT),
    ("convolve", {"interleave": NARROW.max_interleave + 1}, Reason.INTERLEAVE),
    ("pool", {"in_format": NONE}, Reason.FORMAT),
    ("pool", {"out_format": BFP7}, Reason.FORMAT),
    ("map", {"a_format": BFP7}, Reason.FORMAT),
    ("map", {"b_format": NONE, "operation": 1}, Reason.FORMAT),
    ("map", {"out_format": UNKNOWN}, Reason.FORMAT),
    ("map", {"operation": 6}, Reason.OPERATION),
    ("map", {"activation": 7}, Reason.OPERATION),
]
TAKEN = [
    ("load", {"out_format": F32}),
    ("store", {"in_format": BFP6}),
    ("convolve", {"in_format": BFP6, "interleave": NARROW.max_interleave}),
    ("convolve", {"out_format": NONE, "suspend": 1, "residual_format": NONE}),
    ("convolve", {"residual_format": F32, "interleave": 0}),
    ("pool", {"in_format": F32, "out_format": F32, "operation": 3}),
    ("map", {"b_format": UNKNOWN, "operation": 0}),
    ("map", {"operation": 5, "activation": 5}),
    ("sync", {"unit": 4}),
]


@STALLS
def test_each_reason_to_refuse_is_told_with_its_number(simulate, external_memory, stall):
    """What comes before is handed out; the next text is not hurt."""
    rng, unit, texts = np.random.default_rng(1), Fetch(NARROW), []
    for name, values, _ in REFUSED:
        before = int(rng.integers(0, 2))
        bad = code_of(rng, name, **values)
        texts.append(([code_of(rng, "sync")] * before + [bad] + text_of(rng, 1), 9))
    found = run(simulate, external_memory, unit, texts, stall)
    assert [reason for _, reason, _ in found] == [reason for _, _, reason in REFUSED]
    assert found == [expected(unit, text, count) for text, count in texts]
    assert {reason for _, reason, _ in found} == set(Reason) - {Reason.NONE, Reason.NO_END}


def test_what_looks_alike_is_taken(simulate, external_memory):
    rng, unit = np.random.default_rng(2), Fetch(NARROW)
    text = [code_of(rng, name, **values) for name, values in TAKEN] + [code_of(rng, "end")]
    found = run(simulate, external_memory, unit, [(text, len(text))], 0.3)
    assert found == [expected(unit, text, len(text))]
    assert found[0][1:] == (Reason.NONE, len(TAKEN))


@pytest.mark.parametrize("sizes", [architecture("tiny"), NARROW], ids=["tiny", "narrow"])
def test_the_model_refuses_what_hardware_does_whatever_the_bits(simulate, external_memory, sizes):
    """Fields that decide have any bits at all; each instruction is a text of its own."""
    rng, unit = np.random.default_rng(3), Fetch(sizes)
    texts = []
    for number in range(80):
        name = OTHERS[number % len(OTHERS)]
        fields = [place.field for place in BY_NAME[name].layout[1:]]
        free = [f for f in fields if f.name.endswith("format") or f.name in ("operation", "activation")]
        free = [f for f in free if rng.random() < 0.4] + [f for f in fields if f.name in ("unit", "split")]
        texts.append(([code_of(rng, name, **{f.name: int(rng.integers(1 << f.bits)) for f in free})], 1))
    found = run(simulate, external_memory, unit, texts, 0.0)
    assert found == [expected(unit, text, 1) for text, _ in texts]
    assert len({reason for _, reason, _ in found}) == 5  # all but interleave's, and none ends


def test_fields_are_read_where_they_are_written():
    code = code_of(np.random.default_rng(4), "convolve", interleave=33, bias=0xABCDEF)
    values = field_values(code)
    assert (values["interleave"], values["bias"], values["opcode"]) == (33, 0xABCDEF, 6)
    assert refusal(code, architecture("tiny")) == Reason.INTERLEAVE
