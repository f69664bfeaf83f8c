"""Requests for operands that a unit makes for each block of its results, one after another."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, ValueLike

from .pipeline import named


@dataclass(frozen=True)
class Request:
    """What `Operands` is asked for: a block, or a vector, with a tag; only where `enabled`.

    `base` is the address of an item's block 0.
    """

    enabled: ValueLike
    vector: ValueLike
    base: ValueLike
    tag: ValueLike = 0

    def parts(self, width: int):
        """Statements, and what they fill: `vector`, `base` of `width` bits, `tag`."""
        base, tag = Signal(width, name="request_base"), Signal(2, name="request_tag")
        return (base.eq(self.base), tag.eq(self.tag)), Cat(self.vector, tag, base)


class InTurn:
    """Make the requests of an item in their order, and tell its destination once.

    Parameters
    ----------
    m : Module
    requests : list of Request
        Those of an item; some may not be enabled.
    block : Value
        Number of the item's block.
    width : int
        Bits of an address.
    active : Value
        There is an item; it stays until `done`. Its requests may settle for a cycle.
    request_ready, destination_ready : Value
        What is offered is taken.

    Members
    -------
    request_valid, request, destination_valid : Value
        What is offered; a request stands in registers.
    done : Value
        The item is dealt with; the next one follows it, its last request may still be offered. A register.
    """

    def __init__(self, m: Module, requests, block, width, active, request_ready, destination_ready):
        asked, told, settled = Signal(len(requests)), Signal(), Signal()
        self.done = Signal(name="item_done")
        left = named(m, Cat(request.enabled for request in requests) & ~asked, "left")
        first = named(m, left & (~left + 1)[: len(left)], "first")
        self.request_valid, self.request = Signal(name="request_valid"), Signal(3 + width, name="request")
        moves = named(m, settled & left.any() & (~self.request_valid | request_ready), "request_moves")
        self.destination_valid = named(m, settled & ~told, "destination_valid")
        ends = named(m, settled & ~left.any() & told & ~self.done, "item_ends")
        m.d.sync += [self.done.eq(ends), settled.eq(active & ~ends & ~self.done)]
        chosen = None
        for number, request in reversed(list(enumerate(requests))):
            statements, parts = request.parts(width)
            m.d.comb += statements
            chosen = parts if chosen is None else Mux(first[number], parts, chosen)
        chosen = named(m, chosen, "chosen")
        with m.If(request_ready):
            m.d.sync += self.request_valid.eq(0)
        with m.If(moves):
            m.d.sync += [
                asked.eq(asked | first),
                self.request_valid.eq(1),
                self.request.eq(Cat(chosen[0], (chosen[3:] + block)[:width], chosen[1:3])),
            ]
        with m.If(self.destination_valid & destination_ready):
            m.d.sync += told.eq(1)
        with m.If(self.done):
            m.d.sync += [asked.eq(0), told.eq(0)]
