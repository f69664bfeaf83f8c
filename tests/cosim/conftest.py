import shutil
from pathlib import Path

import numpy as np
import pytest

from gatecast.cosim import RtlDevice, build
from gatecast.isa import Instruction, Port, Program, Section, View, architecture

STUB = Path(__file__).parent / "stub.v"


@pytest.fixture(autouse=True)
def quick_build(monkeypatch):
    """The stand-in for the NPU runs for a few hundred cycles: to optimise it takes longer than they do."""
    monkeypatch.setattr(build, "_OPTIMISATION", "OPT_FAST=-O0 OPT_GLOBAL=-O0")


@pytest.fixture(scope="session")
def tools():
    """Skip without Verilator."""
    if missing := [tool for tool in ("verilator", "g++", "make") if shutil.which(tool) is None]:
        pytest.skip(f"needs Verilator: no {', '.join(missing)} on PATH")


def copying(sizes="tiny"):
    """A Program of one vector in and out."""
    x, y = (Port.packed(name, (1, 1, 32), "float32") for name in "xy")
    view = View(0, "float32", 1, 1)
    extent = {"rows": 1, "columns": 1, "blocks": 1}
    load = Instruction(
        "load", section=Section.INPUTS, row_pitch=x.row_pitch, pixel_pitch=1, **view.fields("out"),
        **{f"out_{name}": size for name, size in extent.items()}, signal="store",
    )  # fmt: skip
    store = Instruction(
        "store", section=Section.OUTPUTS, row_pitch=y.row_pitch, pixel_pitch=1, **view.fields("in"),
        **{f"in_{name}": size for name, size in extent.items()}, wait="load",
    )  # fmt: skip
    text = (load, store, Instruction("end"))
    return Program(architecture(sizes), text, inputs=(x,), outputs=(y,), layers=("copy",))


@pytest.fixture
def program():
    return copying()


def write_stub(_):
    digest = int.from_bytes(architecture("tiny").digest, "little")
    return STUB.read_text().replace("128'h0;", f"128'h{digest:x};")


@pytest.fixture
def stub(tools):
    """Open device `rtl` with the stand-in for the NPU."""

    def make(**options):
        return RtlDevice(verilog=write_stub, **options)

    return make


def section(first=0):
    """Section `inputs`: what the stand-in is to do, then noise."""
    content = np.random.default_rng(1).integers(0, 256, 128, np.uint8)
    content[0] = first
    return content.tobytes()
