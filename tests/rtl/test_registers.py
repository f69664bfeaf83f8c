"""The register map: declared once, decoded by hardware, exported as JSON and SVD."""

import json
from xml.etree import ElementTree

import pytest

from gatecast.isa import UNITS, architecture
from gatecast.rtl import ERRORS, REGISTERS, UNIT_STATES, register_map_json, register_map_svd, register_words
from gatecast.rtl.bus import LATENCY, RegisterBus
from gatecast.rtl.registers import Reason
from gatecast.rtl.unit_control import State

WORDS = register_words()


def test_words_and_names_are_used_once():
    assert len(set(WORDS.values())) == len(WORDS) == len(REGISTERS)
    assert {WORDS[f"{unit}_state"] for unit in UNITS} == {25, 29, 33, 37, 41}


def test_every_reason_and_state_has_a_text():
    assert set(ERRORS) == set(Reason)
    assert tuple(state.name.lower() for state in State) == UNIT_STATES


def test_exports_hold_every_register():
    tiny = architecture("tiny")
    content = json.loads(register_map_json(tiny))
    assert {r["name"]: r["address"] for r in content["registers"]} == {n: 4 * w for n, w in WORDS.items()}
    assert content["digest"] == tiny.digest.hex()
    svd = ElementTree.fromstring(register_map_svd(tiny))
    found = {r.findtext("name"): int(r.findtext("addressOffset"), 0) for r in svd.iter("register")}
    assert found == {n: 4 * w for n, w in WORDS.items()}
    assert [f.findtext("name") for f in svd.iter("field")][:2] == ["start", "reset"]


@pytest.fixture
def access(simulate):
    """Do accesses one after another: (write, word, value); list what is read."""

    def run(steps, given):
        bus, found, pulses = RegisterBus(), [], []

        async def watch(ctx):
            while True:
                pulses.append(ctx.get(bus.w_control))
                await ctx.tick()

        async def bench(ctx):
            for name, value in given.items():
                ctx.set(getattr(bus, f"r_{name}"), value)
            for write, word, value in steps:
                for name, level in (("cyc", 1), ("stb", 1), ("we", write), ("adr", word), ("dat_w", value)):
                    ctx.set(getattr(bus, name), level)
                waited = 0
                while not ctx.get(bus.ack):
                    await ctx.tick()
                    waited += 1
                found.append((waited, ctx.get(bus.dat_r)))
                ctx.set(bus.cyc, 0)
                ctx.set(bus.stb, 0)
                await ctx.tick()

        simulate(bus, bench, background=[watch])
        return found, pulses

    return run


def test_registers_keep_show_and_command(access):
    steps = [
        (1, WORDS["text"], 0x1000),
        (1, WORDS["outputs"], 0xFFFF0000),
        (0, WORDS["text"], 0),
        (0, WORDS["outputs"], 0),
        (0, WORDS["cycles"], 0),
        (1, WORDS["cycles"], 7),
        (0, WORDS["cycles"], 0),
        (1, WORDS["control"], 1),
        (0, 200, 0),
    ]
    found, pulses = access(steps, {"cycles": 1234})
    assert [value for _, value in found[2:5]] == [0x1000, 0xFFFF0000, 1234]
    assert found[6][1] == 1234
    assert found[8][1] == 0
    assert {waited for waited, _ in found} == {LATENCY}
    assert pulses.count(1) == 1  # a command lasts for one cycle
