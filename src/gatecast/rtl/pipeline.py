"""Registers, delays and shifts that several units are made of."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import fifo

QUEUE = 16
"""Words of a small queue; what a LUT's memory holds."""

UNORDERED = {"no_rw_check": 1}
"""Attribute of memories whose word is never used where it is read in the cycle of its write: block RAMs of an
ECP5 leave open what such a read finds, and tools would build a detour around each."""


def named(m: Module, value: ValueLike, name: str) -> Signal:
    """Signal of its own for a value, so that Verilog computes it once."""
    signal = Signal(Value.cast(value).shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def less_one(m: Module, field: Value) -> Signal:
    """A field of an instruction, less one, in a register: it is steady long before it is compared.

    Not to be called where a condition holds: the register follows at all times.
    """
    register = Signal(len(field), name="less_one", reset_less=True)
    m.d.sync += register.eq(field - 1)
    return register


def registered(m: Module, cut: bool, *values: ValueLike) -> tuple:
    """The values behind a register each, or as they are without `cut`."""
    if not cut:
        return values
    registers = [
        Signal(Value.cast(value).shape(), name=f"cut{i}", reset_less=True) for i, value in enumerate(values)
    ]
    m.d.sync += [register.eq(value) for register, value in zip(registers, values, strict=True)]
    return tuple(registers)


def delayed(m: Module, value: ValueLike, cycles: int, **options) -> Value:
    """The value `cycles` later; `options` are those of Signal."""
    for _ in range(cycles):
        register = Signal(Value.cast(value).shape(), name="delayed", **options)
        m.d.sync += register.eq(value)
        value = register
    return Value.cast(value)


def delayed_data(m: Module, value: ValueLike, cycles: int) -> Value:
    """`delayed`, for what needs no reset: nothing looks at it before it has come through."""
    return delayed(m, value, cycles, reset_less=True)


def one_of(chosen: Value, parts: Value, width: int) -> Value:
    """The part of `width` bits whose bit of `chosen` is set; 0 if none is.

    Where selectors are wide, this takes fewer LUTs of four inputs than a choice by number.
    """
    found: Value = Const(0, width)
    for number, bit in enumerate(chosen):
        found = found | (parts[width * number :][:width] & bit.replicate(width))
    return found


class Ahead:
    """A queue between a pipeline and what takes from it, so that no path leads from one to the other.

    Parameters
    ----------
    m : Module
    name : str
        Of the submodule.
    sink : stream
        What is offered; taken where `valid` and `ready` meet.
    under_way : int
        Items that still come when `goes` falls.

    Members
    -------
    goes : Signal
        There is room; a register.
    empty : Value
    """

    def __init__(self, m: Module, name: str, sink, under_way: int):
        width = len(Value.cast(sink.payload))
        m.submodules[name] = queue = fifo.SyncFIFO(width=width, depth=QUEUE)
        self._queue, self.goes = queue, Signal(name=f"{name}_goes")
        self.empty = ~queue.r_rdy
        m.d.comb += [sink.valid.eq(queue.r_rdy), sink.payload.eq(queue.r_data), queue.r_en.eq(sink.ready)]
        m.d.sync += self.goes.eq(queue.level < QUEUE - 1 - under_way)

    def put(self, m: Module, valid: ValueLike, item: ValueLike) -> None:
        """Connect what comes out of the pipeline."""
        m.d.comb += [self._queue.w_en.eq(valid), self._queue.w_data.eq(item)]


def shift_out(m: Module, x: Value, steps: tuple[int, ...], sign: bool = False) -> tuple[Value, Value]:
    """Shift left while the top bits are 0, or with `sign` while they repeat the sign.

    Returns the shifted value, and the shift taken: one bit for each of `steps`, which fall.
    """
    width, taken = len(x), []
    for step in steps:
        spare = x[width - step :] if not sign else x[width - 1 - step : width - 1]
        same = named(m, ~Cat(bit ^ (x[-1] if sign else 0) for bit in spare).any(), f"same{step}")
        x = named(m, Mux(same, x << step, x)[:width], f"left{step}")
        taken.append(same)
    return x, Cat(*reversed(taken))


def shift_right_sticky(
    m: Module, x: Value, amount: Value, sticky: ValueLike, steps: tuple[int, ...]
) -> tuple[Value, Value]:
    """Shift right by the bits of `amount` named in `steps`; what falls off is or-ed into `sticky`.

    The shift is arithmetic if `x` is signed.
    """
    for step in steps:
        take = amount[step.bit_length() - 1]
        sticky = named(m, sticky | (take & x[:step].any()), f"sticky{step}")
        shifted = Mux(take, x >> step, x)[: len(x)]
        x = named(m, shifted.as_signed() if x.shape().signed else shifted, f"right{step}")
    return x, sticky
