"""The NPU made for an ECP5, with models of its cells: the bytes of the reference device."""

import re
from functools import cache

import pytest

from gatecast.cosim import RtlDevice
from gatecast.devices import open_device
from gatecast.rtl import write_verilog

from .random_programs import random_program

pytestmark = pytest.mark.slow

PINS = {name: [f"{name}{i}" for i in range(18)] for name in "AB"} | {"P": [f"P{i}" for i in range(36)]}

CELLS = f"""
module CCU2C(input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
  parameter [15:0] INIT0 = 0, INIT1 = 0;
  parameter INJECT1_0 = "YES", INJECT1_1 = "YES";
  wire table0 = INIT0[{{D0, C0, B0, A0}}], table1 = INIT1[{{D1, C1, B1, A1}}];
  wire carry = table0 ? CIN : INIT0[{{2'b00, B0, A0}}];
  assign S0 = table0 ^ CIN;
  assign S1 = table1 ^ carry;
  assign COUT = table1 ? carry : INIT1[{{2'b00, B1, A1}}];
endmodule

module MULT18X18D(
  input CLK0, CE0, CE1, RST0, SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input {", ".join(PINS["A"] + PINS["B"])},
  output {", ".join(PINS["P"])}
);
  parameter GSR = "ENABLED";
  parameter REG_INPUTA_CLK = "NONE", REG_INPUTB_CLK = "NONE", REG_OUTPUT_CLK = "NONE";
  parameter REG_INPUTA_CE = "", REG_INPUTB_CE = "", REG_OUTPUT_CE = "";
  reg [17:0] a, b;
  reg [35:0] p;
  assign {{{", ".join(reversed(PINS["P"]))}}} = p;
  always @(posedge CLK0) begin
    if (CE0) a <= {{{", ".join(reversed(PINS["A"]))}}};
    if (CE1) b <= {{{", ".join(reversed(PINS["B"]))}}};
    if (CE0) p <= a * b;
  end
endmodule
"""


@cache
def verilog(sizes):
    return write_verilog(sizes, cells=True) + CELLS


@pytest.mark.parametrize("seed", range(30))
def test_convolutions_with_random_fields_give_the_bytes_of_the_reference_device(seed, tools):
    program, inputs = random_program("convolve", seed)
    loaded = RtlDevice(verilog=verilog).load(program)
    found = loaded.run(inputs)
    loaded.close()
    assert found == open_device("reference").load(program).run(inputs)


def test_each_registers_enable_is_as_modelled(tools):
    text = write_verilog(random_program("convolve", 0)[0].architecture, cells=True)
    found = set(re.findall(r"\.REG_(\w+)_(?:CLK|CE)\(\"(\w+)\"\)", text))
    registers = {"INPUTA": "CE0", "INPUTB": "CE1", "OUTPUT": "CE0"}
    assert found == {pair for name, enable in registers.items() for pair in ((name, "CLK0"), (name, enable))}
