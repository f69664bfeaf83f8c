"""Pieces of several units, at any address and of every format."""

import numpy as np
import pytest

from gatecast.isa import format_code
from gatecast.numerics import FORMATS
from gatecast.rtl.packing import unpacked_model
from gatecast.rtl.reader import Reader

CONTENT = np.random.default_rng(7).integers(0, 256, 1024, np.uint8).tobytes()
STALLS = pytest.mark.parametrize("stall", [0.0, 0.6], ids=["free-running", "back-pressure"])


def single(address):
    return [{"address": address, "single": 1}]


def words(address, count):
    return [
        {"address": address + 16 * n, "raw": 1, "follows": n > 0, "more": n < count - 1} for n in range(count)
    ]


def block(address, name):
    half, code = FORMATS[name].block_bytes // 2, format_code(name)
    return [
        {"address": address, "code": code, "more": 1},
        {"address": address + half, "code": code, "follows": 1},
    ]


def strings(rng, count):
    """Bytes, words and blocks of all formats at random places."""
    found = []
    for _ in range(count):
        kind, address = rng.choice(["single", "words", *FORMATS]), int(rng.integers(0, 800))
        if kind == "single":
            found.append(single(address))
        elif kind == "words":
            found.append(words(address // 4 * 4, int(rng.integers(1, 5))))
        else:
            found.append(block(address // 4 * 4, kind))
    return found


def expected(piece):
    """What comes of a piece; None for bytes that are anything."""
    at = piece["address"]
    if piece.get("single"):
        return {"byte": CONTENT[at]}
    if piece.get("raw"):
        return {"piece": CONTENT[at : at + 16]}
    fmt = list(FORMATS.values())[piece["code"] - 2]
    half = fmt.block_bytes // 2
    return {"piece": unpacked_model(CONTENT[at : at + half] + bytes(half), fmt.bits)[:16]}


def beats(string):
    """Beats that a string of bytes touches."""
    first, last = string[0], string[-1]
    size = 1 if last.get("single") else 16 if last.get("raw") else 2 * (last["code"] + 2)
    return (last["address"] + size - 1) // 16 - first["address"] // 16 + 1


def asks(port, pieces, rng, stall):
    async def body(ctx):
        for tag, piece in enumerate(pieces):
            ctx.set(port.payload, {"tag": tag % 32, **piece})
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
            ctx.set(port.valid, 0)
            while rng.random() < stall:
                await ctx.tick()

    return body


def collects(port, pieces, found, rng, stall):
    async def body(ctx):
        before = None
        while len(found) < len(pieces):
            ready = rng.random() >= stall
            ctx.set(port.ready, ready)
            if ready and ctx.get(port.valid):
                want, payload = expected(pieces[len(found)]), port.payload
                value = ctx.get(payload.piece).to_bytes(16, "little")
                got = {"byte": ctx.get(payload.byte)} if "byte" in want else {"piece": value}
                if pieces[len(found)].get("follows"):
                    assert ctx.get(payload.before).to_bytes(16, "little") == before
                before = value
                found.append((got, ctx.get(payload.tag)))
            await ctx.tick()

    return body


@STALLS
def test_each_unit_gets_its_pieces_in_order(simulate, external_memory, stall):
    rng, unit = np.random.default_rng(4), Reader({"first": 5, "second": 5}, depth=4)
    memory, benches, results = external_memory(CONTENT, stall), [], []
    for name in ("first", "second"):
        given = strings(rng, 40)
        pieces, found = [piece for string in given for piece in string], []
        benches.append(asks(getattr(unit, f"{name}_ask"), pieces, rng, stall / 2))
        benches.append(collects(getattr(unit, f"{name}_found"), pieces, found, rng, stall))
        results.append((given, pieces, found))
    simulate(unit, *benches, background=[memory.serve(unit.request, unit.response)])
    for _, pieces, found in results:
        assert found == [(expected(piece), n % 32) for n, piece in enumerate(pieces)]
    assert memory.reads == sum(beats(string) for given, _, _ in results for string in given)


def test_a_piece_in_one_beat_takes_one_cycle(simulate, external_memory):
    rng, unit, found, pieces = np.random.default_rng(1), Reader({"only": 5}), [], words(0, 40)
    memory, cycles = external_memory(CONTENT), []

    async def count(ctx):
        while len(found) < len(pieces):
            await ctx.tick()
            cycles.append(len(found))

    benches = [
        asks(unit.only_ask, pieces, rng, 0),
        collects(unit.only_found, pieces, found, rng, 0),
        count,
    ]
    simulate(unit, *benches, background=[memory.serve(unit.request, unit.response)])
    assert len(cycles) < len(pieces) + 12
