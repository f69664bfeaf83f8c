"""On-chip memory: the most urgent user first, answers in time, each word what was written last."""

import numpy as np
import pytest

from gatecast.rtl.shared_memory import READ_LATENCY, SharedMemory

READERS, WRITERS, DEPTH = ("first", "second", "third"), ("early", "late"), 16


def offer(rng, ctx, port, share, **values):
    """A new request, unless the last one still waits."""
    if not ctx.get(port.valid):
        ctx.set(port.valid, bool(rng.random() < share))
        for name, value in values.items():
            ctx.set(getattr(port, name), value)


def taken(ctx, ports):
    """The ports' requests that are taken now: at most one, of the most urgent that asks."""
    valid = [ctx.get(port.valid) for port in ports]
    ready = [ctx.get(port.ready) for port in ports]
    assert ready == [not any(valid[:number]) for number in range(len(ports))]
    return [port for port, v, r in zip(ports, valid, ready, strict=True) if v and r]


@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("width", [12, 264])
def test_reads_and_writes_of_several_users(simulate, width, share):
    """A read in the cycle of a write or in the next one may find either word; two cycles later it sees it."""
    rng, unit = np.random.default_rng(width), SharedMemory(width, DEPTH, READERS, WRITERS)
    readers = [getattr(unit, f"read_{name}") for name in READERS]
    writers = [getattr(unit, f"write_{name}") for name in WRITERS]
    words, written_at, line, compared = [0] * DEPTH, [-9] * DEPTH, [None] * READ_LATENCY, set()

    async def bench(ctx):
        for cycle in range(400):
            for port in readers:
                offer(rng, ctx, port, share, address=int(rng.integers(DEPTH)))
            for port in writers:
                data = int.from_bytes(rng.bytes(width // 8 + 1), "little") % (1 << width)
                offer(rng, ctx, port, share / 3, address=int(rng.integers(DEPTH)), data=data)
            reads, writes = taken(ctx, readers), taken(ctx, writers)
            for port in writes:
                words[ctx.get(port.address)], written_at[ctx.get(port.address)] = ctx.get(port.data), cycle
            asked = [(port, ctx.get(port.address)) for port in reads]
            line.append([(port, words[a], written_at[a] < cycle - 1) for port, a in asked])
            answer = line.pop(0) or []
            assert [port for port in readers if ctx.get(port.answered)] == [port for port, *_ in answer]
            for port, word, settled in answer:
                if settled:
                    assert ctx.get(port.data) == word
                    compared.add(word)
            await ctx.tick()
            for port in (*reads, *writes):
                ctx.set(port.valid, 0)

    simulate(unit, bench)
    assert len(compared) > 20
