"""Products in an ECP5's multipliers and carry cells, with models of the cells in their place."""

import numpy as np
import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value

from gatecast.rtl import carry_cells, multiplier_cells
from gatecast.rtl.block_dot import BlockDot


class CarryCell(Elaboratable):
    """CCU2C with INJECT1 = NO: each half adds by its LUT4, and its LUT2 decides the carry."""

    def __init__(self, kind, **ports):
        assert kind == "CCU2C" and ports["p_INJECT1_0"] == ports["p_INJECT1_1"] == "NO"
        self.ports = ports

    def elaborate(self, platform):
        m, ports, carry = Module(), self.ports, self.ports["i_CIN"]
        for half in "01":
            a, b, c, d = (ports[f"i_{pin}{half}"] for pin in "ABCD")
            table = Value.cast(ports[f"p_INIT{half}"])
            propagates = table.bit_select(Cat(a, b, c, d), 1)
            generates = table.bit_select(Cat(a, b, 0, 0)[:4], 1)
            m.d.comb += ports[f"o_S{half}"].eq(propagates ^ carry)
            carry = Mux(propagates, carry, generates)
        m.d.comb += ports["o_COUT"].eq(carry)
        return m


class MultiplierCell(Elaboratable):
    """MULT18X18D with the registers that its parameters ask for, of clock CLK0 and its own enables."""

    def __init__(self, kind, **ports):
        assert kind == "MULT18X18D"
        self.ports = ports

    def elaborate(self, platform):
        m, ports = Module(), self.ports
        a, b = (self.registered(m, f"INPUT{name}", self.operand(name)) for name in "AB")
        inner = self.registered(m, "PIPELINE", a.as_signed() * b.as_signed())
        product = self.registered(m, "OUTPUT", inner)
        m.d.comb += [ports[f"o_P{i}"].eq(product[i]) for i in range(36)]
        return m

    def operand(self, name):
        assert Value.cast(self.ports[f"i_SIGNED{name}"]).value == 1
        assert Value.cast(self.ports[f"i_SOURCE{name}"]).value == 0
        return Cat(self.ports[f"i_{name}{i}"] for i in range(18))

    def registered(self, m, name, value):
        if self.ports.get(f"p_REG_{name}_CLK", "NONE") == "NONE":
            return value
        assert self.ports[f"p_REG_{name}_CLK"] == "CLK0"
        register = Signal(len(value), name=name.lower())
        with m.If(self.ports[f"i_{self.ports[f'p_REG_{name}_CE']}"]):
            m.d.sync += register.eq(value)
        return register


@pytest.fixture
def modelled(monkeypatch):
    monkeypatch.setattr(carry_cells, "Instance", CarryCell)
    monkeypatch.setattr(multiplier_cells, "Instance", MultiplierCell)


@pytest.mark.parametrize("multipliers", [32, 16])
def test_dot_in_cells_is_exact(through, modelled, multipliers):
    rng, unit = np.random.default_rng(0), BlockDot(multipliers, cells=True)
    a, w = (rng.integers(-127, 128, (40, 32)).astype(np.int8) for _ in range(2))
    a[0], w[0], a[1], w[1], a[2] = 127, 127, -127, 127, 0

    def code(block):
        parts = [int(v) & 255 if i < multipliers or v >= 0 else 128 | -int(v) for i, v in enumerate(block)]
        return int.from_bytes(bytes(parts), "little")

    take = rng.random(40) < 0.6
    take[0] = True
    last = np.maximum.accumulate(np.where(take, np.arange(40), 0))
    inputs = [{"a": code(x), "w": code(y), "take": int(t)} for x, y, t in zip(a, w, take, strict=True)]
    assert through(unit, inputs, "dot") == [unit.model(x, w[i]) for x, i in zip(a, last, strict=True)]
