"""Registers, delays and shifts that several units are made of."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike


def named(m: Module, value: ValueLike, name: str) -> Signal:
    """Signal of its own for a value, so that Verilog computes it once."""
    signal = Signal(Value.cast(value).shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


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
