"""On-chip memory that several units read and write."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .pipeline import UNORDERED, delayed

READ_LATENCY = 3
"""Cycles from the cycle in which a read is taken to its answer."""


def read_signature(address_bits: int, width: int) -> wiring.Signature:
    """Reads of a user, taken where `valid` and `ready` meet.

    They are `answered` with `data` `READ_LATENCY` later; an answer cannot be put off.
    """
    return wiring.Signature(
        {
            "valid": Out(1),
            "ready": In(1),
            "address": Out(address_bits),
            "answered": In(1),
            "data": In(width),
        }
    )


def write_signature(address_bits: int, width: int) -> wiring.Signature:
    """Writes of a user: taken where `valid` and `ready`; a read taken two cycles later sees it."""
    return wiring.Signature(
        {"valid": Out(1), "ready": In(1), "address": Out(address_bits), "data": Out(width)}
    )


class SharedMemory(wiring.Component):
    """One read and one write a cycle, each for the first user in order that asks.

    Parameters
    ----------
    width, depth : int
        Bits and number of words.
    readers, writers : tuple of str
        Names of the users' ports, the most urgent first.

    Members
    -------
    read_<name> : In(read_signature)
    write_<name> : In(write_signature)
    written : Out(1)
        A word is written.
    data : MemoryData
        The words, for test benches.
    """

    def __init__(self, width: int, depth: int, readers: tuple[str, ...], writers: tuple[str, ...]):
        self.width, self.depth, self.readers, self.writers = width, depth, readers, writers
        self.address_bits = max(1, (depth - 1).bit_length())
        self.data = memory.MemoryData(shape=unsigned(width), depth=depth, init=[])
        super().__init__(
            {f"read_{name}": In(read_signature(self.address_bits, width)) for name in readers}
            | {f"write_{name}": In(write_signature(self.address_bits, width)) for name in writers}
            | {"written": Out(1)}
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        m.submodules.memory = ram = memory.Memory(self.data, attrs=UNORDERED)
        read, write = ram.read_port(), ram.write_port()
        data = delayed(m, read.data, 1, reset_less=True)
        asked = Signal(self.address_bits)  # of its own, since it goes to memory all over the chip
        m.d.sync += read.addr.eq(asked)
        m.d.comb += read.en.eq(1)
        free = 1
        for name in self.readers:
            port = getattr(self, f"read_{name}")
            m.d.comb += [port.ready.eq(free), port.data.eq(data)]
            m.d.comb += port.answered.eq(delayed(m, port.valid & port.ready, READ_LATENCY))
            free = free & ~port.valid
        _first(m, [getattr(self, f"read_{name}") for name in self.readers], {"address": asked})

        address, word, enable = Signal(self.address_bits), Signal(self.width, reset_less=True), Signal()
        free = 1
        for name in self.writers:
            port = getattr(self, f"write_{name}")
            m.d.comb += port.ready.eq(free)
            free = free & ~port.valid
        ports = [getattr(self, f"write_{name}") for name in self.writers]
        _first(m, ports, {"address": address, "data": word}, m.d.sync)
        m.d.sync += enable.eq(~free)
        m.d.comb += [
            write.addr.eq(address),
            write.data.eq(word),
            write.en.eq(enable),
            self.written.eq(enable),
        ]
        return m


def _first(m, ports, targets, domain=None):
    """Drive `targets` from the first port that is valid; from the last one if none is."""
    domain = m.d.comb if domain is None else domain
    *before, last = ports
    domain += [signal.eq(getattr(last, name)) for name, signal in targets.items()]
    for port in reversed(before):
        with m.If(port.valid):
            domain += [signal.eq(getattr(port, name)) for name, signal in targets.items()]
