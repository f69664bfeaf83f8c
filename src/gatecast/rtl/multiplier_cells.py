"""Products in the multipliers of an ECP5, whose registers spare those of the fabric.

Ports and registers are those of MULT18X18D in Lattice's FPGA-TN-02205, ECP5 sysDSP usage guide.
"""

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, Value

PRODUCT_LATENCY = 2
"""Cycles through a multiplier: registers of its inputs, and of its product."""

WIDTH = 18
"""Bits of a multiplier's inputs."""


def kept(m: Module, value: Value, take: Value) -> Signal:
    """Register that takes the value where `take` holds."""
    register = Signal(len(value), name="kept", reset_less=True)
    with m.If(take):
        m.d.sync += register.eq(value)
    return register


def unsigned_product(m: Module, a: Value, b: Value, take: Value) -> Value:
    """Product of two unsigned numbers in a MULT18X18D, `PRODUCT_LATENCY` cycles later.

    `b` is the one that was there when `take` held last.
    """
    product = Signal(2 * WIDTH, name="product")
    connections = {f"o_P{i}": product[i] for i in range(2 * WIDTH)}
    for name, operand in (("A", a), ("B", b)):
        connections |= {f"i_{name}{i}": operand[i] if i < len(operand) else Const(0) for i in range(WIDTH)}
        connections |= {f"i_SIGNED{name}": Const(0), f"i_SOURCE{name}": Const(0)}
    for name, enable in (("INPUTA", "CE0"), ("INPUTB", "CE1"), ("OUTPUT", "CE0")):
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
    return product[: len(a) + len(b)]
