"""Encoding, and the way of results to memory."""

import numpy as np
import pytest

from gatecast.rtl.block_writer import BlockWriter


def awkward_blocks(rng, count, bits):
    """Blocks with ties, saturation, zeros, and exponents up to the clamp and beyond."""
    found = rng.normal(size=(count, 32)).astype(np.float32) * 2.0 ** rng.integers(-6, 7, (count, 1))
    step = 2.0 ** -(bits - 2)
    found[0] = 0
    found[1] = (rng.integers(-64, 64, 32) + 0.5) * step  # ties
    found[2] = 2.0 - 2.0**-20  # rounds beyond the largest mantissa
    found[3] = rng.normal(size=32) * 2.0**-50  # below the smallest exponent
    found[4] = rng.normal(size=32) * 2.0**60  # above the largest
    found[5] *= 2.0 ** -rng.integers(0, 12, 32)
    found[6, 1:] = 0
    found[7] = -0.0
    return found.astype(np.float32)


async def tell(ctx, unit, channels):
    for number, count in enumerate(channels):
        ctx.set(unit.destination.payload, {"address": number, "channels": count})
        ctx.set(unit.destination.valid, 1)
        await ctx.tick().until(unit.destination.ready)
    ctx.set(unit.destination.valid, 0)


async def feed(ctx, unit, blocks, pauses):
    """Rows of one block after another, without `pauses` one in each cycle; ends when all is written."""
    for block in blocks:
        while not ctx.get(unit.free):
            await ctx.tick()
        for number, row in enumerate(block.view(np.uint32).reshape(-1, unit.values)):
            while pauses is not None and pauses.random() < 0.1:
                await ctx.tick()
            ctx.set(unit.taken, number == 0)
            ctx.set(unit.i_valid, 1)
            for lane in range(unit.values):
                ctx.set(unit.i_values[lane], int(row[lane]))
            await ctx.tick()
            ctx.set(unit.taken, 0)
            ctx.set(unit.i_valid, 0)
    for _ in range(200):
        if ctx.get(unit.idle):
            return
        await ctx.tick()


async def collect(ctx, port, found, count):
    """What a memory would write: it takes each word in the cycle in which it is offered."""
    ctx.set(port.ready, 1)
    while len(found) < count:
        if ctx.get(port.valid):
            found.append((ctx.get(port.address), ctx.get(port.data)))
        await ctx.tick()


def masked(blocks, channels):
    blocks = blocks.copy()
    for block, count in zip(blocks, channels, strict=True):
        block[count:] = 0
    return blocks + np.float32(0)


PAUSES = pytest.mark.parametrize("pauses", [False, True], ids=["row-by-row", "with-pauses"])


@PAUSES
@pytest.mark.parametrize(("values", "bits"), [(1, 8), (2, 5), (2, 8), (4, 4), (4, 6)])
def test_blocks_are_encoded(simulate, values, bits, pauses):
    rng, unit = np.random.default_rng(bits), BlockWriter(values, 8, 10)
    blocks, found = awkward_blocks(rng, 12, bits), []
    channels = [32] * 9 + [10, 1, 31]

    async def bench(ctx):
        ctx.set(unit.bits, bits)
        await feed(ctx, unit, blocks, np.random.default_rng(1) if pauses else None)
        assert len(found) == len(blocks)  # idle only then

    simulate(
        unit,
        bench,
        lambda ctx: tell(ctx, unit, channels),
        lambda ctx: collect(ctx, unit.blocks, found, len(blocks)),
    )
    expected = []
    for number, block in enumerate(masked(blocks, channels)):
        mantissas, exponent = unit.model(block, bits)
        code = int.from_bytes(mantissas.astype(np.int8).tobytes() + bytes([exponent]), "little")
        expected.append((number, code))
    assert found == expected


@PAUSES
@pytest.mark.parametrize("values", [1, 2, 4])
def test_vectors_keep_their_bits_but_for_the_sign_of_zero(simulate, values, pauses):
    rng, unit = np.random.default_rng(values), BlockWriter(values, 8, 10)
    blocks, found, channels = awkward_blocks(rng, 8, 8)[[0, 1, 3, 4, 5, 7]], [], [32, 32, 5, 32, 32, 32]

    async def bench(ctx):
        ctx.set(unit.vector, 1)
        await feed(ctx, unit, blocks, np.random.default_rng(1) if pauses else None)
        assert len(found) == 8 * len(blocks)

    simulate(
        unit,
        bench,
        lambda ctx: tell(ctx, unit, channels),
        lambda ctx: collect(ctx, unit.words, found, 8 * len(blocks)),
    )
    assert [address for address, _ in found] == list(range(8 * len(blocks)))
    data = b"".join(word.to_bytes(16, "little") for _, word in found)
    assert data == masked(blocks, channels).tobytes()
