"""Simulators are built once, and known by all that they are made of."""

import subprocess
from dataclasses import replace

import pytest

from gatecast.cosim import Simulators, build
from gatecast.errors import DeviceError
from gatecast.isa import architecture

TINY = architecture("tiny")


@pytest.fixture
def simulators(tmp_path, monkeypatch):
    """A cache whose tools only pretend: the file that they make holds their command line."""

    def run(command, folder):
        made.append(command)
        (folder / "made").mkdir()
        (folder / "made" / "Vnpu").write_text(" ".join(command))

    made = []
    monkeypatch.setattr(build, "_run", run)
    monkeypatch.setattr(build, "_verilator_version", lambda: version[0])
    monkeypatch.setattr(build, "require_tools", lambda: None)
    version = ["Verilator 5"]
    simulators = Simulators(tmp_path / "cache")
    return simulators, made, version


def test_the_same_verilog_is_built_once(simulators):
    cache, made, _ = simulators
    first = cache.library("tiny", "module npu; endmodule")
    assert cache.library("tiny", "module npu; endmodule") == first
    assert len(made) == 1
    assert "--trace-fst" not in made[0]


def test_verilog_waveforms_and_the_tool_each_make_another(simulators):
    cache, made, version = simulators
    paths = {cache.library("tiny", "a"), cache.library("tiny", "b"), cache.library("tiny", "a", trace=True)}
    version[0] = "Verilator 6"
    paths.add(cache.library("tiny", "a"))
    assert len(paths) == len(made) == 4


def test_nothing_is_left_of_a_build_that_failed(simulators, monkeypatch):
    cache, _, _ = simulators

    def fail(command, folder):
        raise DeviceError("no")

    monkeypatch.setattr(build, "_run", fail)
    with pytest.raises(DeviceError):
        cache.library("tiny", "a")
    assert [file.suffix for file in cache.folder.iterdir()] == [".lock"]


def test_errors_of_verilator_are_shown(tmp_path, tools):
    with pytest.raises(DeviceError) as error:
        Simulators(tmp_path).library("tiny", "module npu(; endmodule")
    first, second, *_ = str(error.value).splitlines()
    assert first == "Verilator must build the simulator of device rtl, but failed:"
    assert "syntax error" in second


def test_verilog_is_written_once_for_each_architecture(tmp_path):
    cache, written = Simulators(tmp_path), []

    def write(architecture):
        written.append(architecture.name)
        return f"module {architecture.name}; endmodule"

    for _ in range(2):
        assert cache.verilog(TINY, write) == "module tiny; endmodule"
    cache.verilog(replace(TINY, lanes=8), write)
    cache.verilog(architecture("ecp5_85f"), write)
    assert written == ["tiny", "tiny", "ecp5_85f"]


def test_memories_of_zeros_are_set_in_a_loop():
    lines = "".join(f"    words[{i}] = 8'h00;\n" for i in range(20))
    other = "    words[0] = 8'h01;\n    words[1] = 8'h00;\n"
    assert build.shorter(f"a\n{lines}b\n{other}") == (
        f"a\n    for (int i = 0; i <= 19; i++) words[i] = 0;\nb\n{other}"
    )


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("GATECAST_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert build.cache_folder() == tmp_path / "xdg" / "gatecast" / "rtl"
    monkeypatch.setenv("GATECAST_CACHE", str(tmp_path / "own"))
    assert build.cache_folder() == tmp_path / "own" / "rtl"


def test_the_tool_is_asked_for_its_version(tools):
    shown = subprocess.run(["verilator", "--version"], capture_output=True, text=True, check=True).stdout
    assert build._verilator_version() == shown.strip()
