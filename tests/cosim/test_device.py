"""Device `rtl` around a stand-in for the NPU that goes wrong when it is told to."""

from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest

from gatecast.cosim import MemoryTiming, RtlDevice
from gatecast.cosim.diagnosis import standstill
from gatecast.devices import device_report, open_device
from gatecast.errors import DeviceError, ProgramError, RequestError
from gatecast.isa import Instruction, Program, architecture

from .conftest import copying, section, write_stub

HANG, ERROR, WRITE_INPUTS, READ_OUTSIDE, TAKE_BACK, NO_BUS = range(1, 7)


@pytest.fixture
def loaded(stub, program):
    loaded = stub().load(program)
    yield loaded
    loaded.close()


def failure(loaded, mode):
    with pytest.raises(DeviceError) as error:
        loaded.run(section(mode))
    return error.value


class TestRuns:
    def test_outputs_are_what_external_memory_holds(self, loaded):
        assert loaded.run(section()) == section()

    def test_a_second_run_starts_afresh(self, loaded):
        loaded.run(section())
        assert loaded.run(section(9)) == section(9)

    def test_the_report_is_what_the_registers_and_ports_say(self, loaded):
        loaded.run(section())
        report = device_report(loaded)
        assert (report["reads"], report["writes"], report["instructions"]) == (8, 8, 2)
        assert report["units"]["load"]["busy"] == report["cycles"] == 144
        assert report["layers"] == {"copy": {"instructions": 2, "load": 142, "store": 8}}

    def test_instructions_retire_in_order_of_time(self, loaded):
        loaded.run(section())
        load, store = loaded.retired
        assert (load.unit, load.number, load.cycles) == (0, 0, 142)
        assert (store.unit, store.number, store.cycles) == (4, 1, 8)
        assert load.at < store.at

    def test_there_is_no_report_before_a_run(self, loaded):
        assert device_report(loaded) == {}

    def test_slow_memory_changes_times_alone(self, stub, program):
        slow = stub(timing=MemoryTiming(latency=40, rate=0.3, stalls=0.4, seed=3)).load(program)
        assert slow.run(section()) == section()
        assert slow.report["cycles"] > 2 * 144
        slow.close()

    def test_stalls_depend_on_the_seed_alone(self, stub, program):
        def cycles(seed):
            loaded = stub(timing=MemoryTiming(stalls=0.5, seed=seed)).load(program)
            loaded.run(section())
            return loaded.report["cycles"]

        assert cycles(7) == cycles(7)
        assert len({cycles(seed) for seed in range(1, 6)}) > 1

    def test_progress_tells_the_program_and_its_cycles(self, stub, program):
        told = []
        loaded = stub(progress=lambda *news: told.append(news)).load(program)
        loaded.run(section())
        assert told[-1][0] is program
        assert told[-1][1] >= 144

    def test_inputs_must_have_the_size_of_the_section(self, loaded):
        with pytest.raises(RequestError, match="Section inputs must have 128 bytes, not 3"):
            loaded.run(b"abc")

    def test_a_closed_program_does_not_run(self, stub, program):
        loaded = stub().load(program)
        loaded.close()
        loaded.close()
        with pytest.raises(DeviceError, match="Program must be loaded to run, not closed"):
            loaded.run(section())


class TestFailures:
    def test_a_hang_names_instructions_layers_and_units(self, loaded):
        error = failure(loaded, HANG)
        first, load, store = str(error).splitlines()
        assert first == (
            "The NPU hangs: no unit made progress in 20,000 cycles (0 of 2 instructions have ended)"
        )
        assert load.startswith("load is running: instruction 0, layer copy: load ")
        assert store.startswith("store waits for load: instruction 1, layer copy: store ")
        assert store.endswith("wait(load)")
        assert "--trace" in error.hint

    def test_a_unit_that_has_its_tokens_waits_for_the_epilogue(self, program):
        found = {"vector_state": 1, "vector_number": 1}
        error = standstill(SimpleNamespace(read=lambda name: found.get(name, 0)), program, program.body)
        _, vector = str(error).splitlines()
        assert vector.startswith("vector waits for the epilogue: instruction 1, layer copy: ")

    def test_an_error_has_its_reason_and_instruction(self, loaded):
        text = str(failure(loaded, ERROR))
        assert text.startswith("The NPU stopped with error 1, ")
        assert ": instruction 1, layer copy: store " in text

    @pytest.mark.parametrize(
        ("mode", "text"),
        [
            (WRITE_INPUTS, "wrote external memory at byte 384, where it must not"),
            (READ_OUTSIDE, "read external memory at byte 4294963216, outside of it"),
            (NO_BUS, "did not acknowledge an access to register"),
        ],
    )
    def test_a_broken_rule_of_the_ports_is_found(self, loaded, mode, text):
        assert str(failure(loaded, mode)).startswith(f"The simulated NPU {text}")

    def test_a_request_that_is_taken_back_is_found(self, stub, program):
        loaded = stub(timing=MemoryTiming(stalls=0.6)).load(program)
        assert "took back a request to external memory at byte" in str(failure(loaded, TAKE_BACK))

    @pytest.mark.parametrize("mode", [HANG, ERROR])
    def test_the_next_run_is_not_hurt(self, loaded, mode):
        failure(loaded, mode)
        assert loaded.run(section()) == section()

    def test_the_npu_must_have_the_sizes_of_the_program(self, stub):
        tiny, other = architecture("tiny").digest.hex(), architecture("ecp5_85f").digest.hex()
        with pytest.raises(DeviceError) as error:
            stub().load(copying("ecp5_85f"))
        assert str(error.value) == (
            f"The NPU must be built for ecp5_85f, digest {other}, not for digest {tiny}"
        )

    def test_a_program_is_verified_first(self, stub):
        with pytest.raises(ProgramError):
            stub().load(Program(architecture("tiny"), (Instruction("sync", unit="load"),)))


class TestWaveforms:
    def test_each_program_gets_a_file(self, stub, program, tmp_path):
        device = stub(trace=tmp_path / "npu.fst")
        for _ in range(2):
            loaded = device.load(program)
            assert loaded.run(section()) == section()
            loaded.close()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["npu.2.fst", "npu.fst"]
        assert (tmp_path / "npu.fst").stat().st_size > 1000

    def test_a_path_that_cannot_be_written_is_told(self, stub, program, tmp_path):
        with pytest.raises(DeviceError, match="must be a file that can be written"):
            stub(trace=tmp_path / "none" / "npu.fst").load(program)


class TestOpening:
    def test_it_is_found_by_name(self):
        (entry,) = entry_points(group="gatecast.devices", name="rtl")
        assert entry.load() is RtlDevice

    def test_other_devices_write_no_waveforms(self, tmp_path):
        with pytest.raises(DeviceError, match="Device 'reference' writes no waveforms"):
            open_device("reference", trace=tmp_path / "npu.fst")

    def test_other_devices_need_not_know_of_progress(self):
        assert open_device("reference", progress=lambda *_: None).name == "reference"

    def test_missing_tools_are_named_with_the_way_to_install_them(self, program, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("GATECAST_CACHE", str(tmp_path))
        with pytest.raises(DeviceError) as error:
            RtlDevice(verilog=write_stub).load(program)
        names = "verilator, g++, make"
        expected = f"Device rtl needs {names} to build its simulator, but there is no {names}"
        assert str(error.value) == expected
        assert "apt install verilator g++ make" in error.value.hint
