"""Products in carry cells, with a model of the ECP5's cell in place of the cell."""

import numpy as np
import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Mux, Value

from gatecast.rtl import carry_cells
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


@pytest.fixture
def modelled(monkeypatch):
    monkeypatch.setattr(carry_cells, "Instance", CarryCell)


def test_dot_in_cells_is_exact(through, modelled):
    rng, unit = np.random.default_rng(0), BlockDot(16, cells=True)
    a, w = (rng.integers(-127, 128, (40, 32)).astype(np.int8) for _ in range(2))
    a[0], w[0], a[1], w[1], a[2] = 127, 127, -127, 127, 0

    def code(block):
        parts = [int(v) & 255 if i < 16 or v >= 0 else 128 | -int(v) for i, v in enumerate(block)]
        return int.from_bytes(bytes(parts), "little")

    inputs = [{"a": code(x), "w": code(y)} for x, y in zip(a, w, strict=True)]
    assert through(unit, inputs, "dot") == [unit.model(x, y) for x, y in zip(a, w, strict=True)]
