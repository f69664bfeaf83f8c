"""Products in the multipliers of an ECP5, whose registers spare those of the fabric.

Ports and registers are those of MULT18X18D in Lattice's FPGA-TN-02205, ECP5 sysDSP usage guide.
"""

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, Value

from .pipeline import delayed_data

PRODUCT_LATENCY = 3
"""Cycles through a multiplier with all its registers: inputs, inside, output."""

WIDTH = 18
"""Bits of a multiplier's inputs."""


def kept(m: Module, value: Value, take: Value) -> Signal:
    """Register that takes the value where `take` holds."""
    register = Signal(len(value), name="kept", reset_less=True)
    with m.If(take):
        m.d.sync += register.eq(value)
    return register


def signed_product(m: Module, a: Value, w: Value, take: Value, latency: int, cells: bool) -> Value:
    """Product of two signed bytes, 15 bits, `latency` cycles later: 2, or 3.

    `w` is the one that was there when `take` held last. -128 times itself is no product: mantissas are
    symmetric. With `cells` made of a MULT18X18D, else of plain operators with the same result.
    """
    if not cells:
        product = delayed_data(m, a, 1).as_signed() * kept(m, w, take).as_signed()
        return delayed_data(m, product[:15], latency - 1).as_signed()
    product = Signal(2 * WIDTH, name="product")
    low = WIDTH - len(a)  # bytes at the top: the low inputs are constants, and no sign has to be spread
    connections = {f"o_P{i}": product[i] for i in range(2 * WIDTH)}
    for name, operand in (("A", a), ("B", w)):
        connections |= {f"i_{name}{i}": operand[i - low] if i >= low else Const(0) for i in range(WIDTH)}
        connections |= {f"i_SIGNED{name}": Const(1), f"i_SOURCE{name}": Const(0)}
    registers = {"INPUTA": "CE0", "INPUTB": "CE1", "OUTPUT": "CE0"}
    if latency == PRODUCT_LATENCY:
        registers["PIPELINE"] = "CE0"
    for name, enable in registers.items():
        connections |= {f"p_REG_{name}_CLK": "CLK0", f"p_REG_{name}_CE": enable}
    m.submodules += Instance(
        "MULT18X18D",
        p_GSR="DISABLED",
        i_CLK0=ClockSignal(),
        i_CE0=Const(1),
        i_CE1=take,
        i_RST0=Const(0),
        **connections,
    )
    return product[2 * low : 2 * low + 15].as_signed()
