"""The NPU's Verilog where something is wrong: with a Program that no verifier let pass, and with the NPU."""

import re
from dataclasses import replace

import pytest

from gatecast.cosim import RtlDevice, RtlProgram, Simulator, Simulators, build
from gatecast.cosim.build import cache_folder
from gatecast.cosim.placement import place
from gatecast.cosim.simulator import MemoryTiming
from gatecast.errors import DeviceError
from gatecast.isa import Instruction, units
from gatecast.rtl import write_verilog

from .random_programs import TINY, random_program

pytestmark = pytest.mark.slow


@pytest.fixture
def unverified(tools):
    """Load a Program without verifying it."""
    opened = []

    def load(program):
        simulators = Simulators(cache_folder())
        library = simulators.library("tiny", simulators.verilog(TINY, write_verilog))
        layout = place(program)
        opened.append(Simulator(library, layout.size, layout.writable, MemoryTiming()))
        return RtlProgram(program, layout, opened[-1])

    yield load
    for simulator in opened:
        simulator.close()


def changed(program, number, **changes):
    text = list(program.text)
    text[number] = text[number].replace(**changes)
    return replace(program, text=tuple(text))


def test_a_token_that_never_comes_is_a_hang_with_its_instruction(unverified):
    program, inputs = random_program("pool", 2)
    pool = next(number for number, i in enumerate(program.text) if i.name == "pool")
    loaded = unverified(changed(program, pool, signal=0))
    with pytest.raises(DeviceError) as error:
        loaded.run(inputs)
    first, store = str(error.value).splitlines()
    assert first.startswith("The NPU hangs: no unit made progress in 20,000 cycles")
    assert store.startswith(f"store waits for vector: instruction {pool + 1}, layer random: store ")


def test_a_hang_does_not_hurt_the_next_program_on_this_npu(unverified):
    program, inputs = random_program("pool", 2)
    good = RtlDevice().load(program).run(inputs)
    loaded = unverified(changed(program, len(program.text) - 3, wait=units("store")))
    with pytest.raises(DeviceError):
        loaded.run(inputs)
    assert unverified(program).run(inputs) == good


def test_split_lanes_are_refused_with_the_instruction(unverified):
    program, inputs = random_program("convolve", 0)
    number = max(n for n, i in enumerate(program.text) if i.name == "convolve")
    loaded = unverified(changed(program, number, split=1))
    with pytest.raises(DeviceError) as error:
        loaded.run(inputs)
    text = f", this NPU does not split its lanes: instruction {number}, layer random: convolve "
    assert text in str(error.value)


def test_a_text_without_end_is_refused(unverified):
    program, inputs = random_program("copies", 0)
    text = (*program.text[:-1], Instruction("sync", unit="load"))
    loaded = unverified(replace(program, text=text))
    with pytest.raises(DeviceError, match="the text has no end within its count of instructions"):
        loaded.run(inputs)


def test_a_constant_changed_in_the_verilog_changes_the_bytes(both, tools, monkeypatch):
    """The smallest exponent of a block, -48: one more, in the encoder, shows in encoded blocks of zeros.

    The simulator of the changed NPU is built without optimisation: it runs small Programs only.
    """
    verilog = Simulators(cache_folder()).verilog(TINY, write_verilog)
    wrong, count = re.subn(r"\? 8'h4f :", "? 8'h50 :", verilog)
    assert count == 1, "the encoder clamps exponents"
    device, different = RtlDevice(verilog=lambda _: wrong), 0
    for kind in ("convolve", "pool", "map"):
        for seed in range(20):
            program, inputs = random_program(kind, seed)
            right, expected = both(program, inputs)
            assert right == expected
            with monkeypatch.context() as patch:
                patch.setattr(build, "_OPTIMISATION", "OPT_FAST=-O0 OPT_GLOBAL=-O0")
                loaded = device.load(program)
            different += loaded.run(inputs) != expected
            loaded.close()
    assert different > 0


def test_architectures_that_cannot_be_built_are_refused(tools):
    program, _ = random_program("copies", 0)
    program = replace(program, architecture=replace(TINY, lanes=64))
    with pytest.raises(DeviceError, match="lanes must be 4 or 8 or 16 or 32, not 64"):
        RtlDevice().load(program)
