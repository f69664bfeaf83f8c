"""Device `rtl` as users meet it: `gatecast run`, a server, and the cycle model beside its counters."""

import json
from functools import partial

import numpy as np
import pytest

from gatecast import zoo
from gatecast.artifact import ProgramStage
from gatecast.cli import main
from gatecast.client import PredictionClient
from gatecast.compiler import compile
from gatecast.compiler.estimate import estimate
from gatecast.cosim import RtlDevice
from gatecast.isa import UNITS
from gatecast.quantization import quantize
from gatecast.runtime import open_session
from gatecast.serving import ModelSource, Server, ServerOptions

pytestmark = pytest.mark.slow

SAMPLE = zoo.samples("fashion")[0]


@pytest.fixture(scope="module")
def artifact():
    return compile(quantize(zoo.load("fashion"), "bfp8"), "ecp5_85f")


@pytest.fixture
def files(artifact, tmp_path):
    """An artifact and a picture, as files."""
    artifact.save(tmp_path / "fashion.gcast")
    (tmp_path / "picture.png").write_bytes(SAMPLE.data)
    return tmp_path


def run(files, *options):
    picture = f"images={files / 'picture.png'}"
    return main(["run", str(files / "fashion.gcast"), "--input", picture, *options])


def test_run_tells_the_counters_of_the_npu(files, tools, capsys):
    assert run(files, "--device", "rtl", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert run(files, "--device", "reference", "--json") == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == found["outputs"]
    ((report,),) = (list(image.values()) for image in found["reports"])
    assert set(report) == {"cycles", "instructions", "products", "reads", "writes", "units", "layers"}
    assert set(report["units"]) == set(UNITS)
    assert set(report["units"]["matrix"]) == {"busy", "waiting"}
    assert report["layers"]["conv1"]["matrix"] < report["cycles"]


def test_run_says_how_many_cycles_it_took(files, tools, capsys):
    assert run(files, "--device", "rtl") == 0
    assert " cycles of the device" in capsys.readouterr().err


def test_only_the_rtl_writes_a_waveform(files, capsys):
    assert run(files, "--device", "reference", "--trace", str(files / "npu.fst")) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: Device 'reference' writes no waveforms",
        "hint: `--trace` needs `--device rtl`.",
    ]


def test_without_verilator_the_error_says_how_to_install_it(files, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(files))
    monkeypatch.setenv("GATECAST_CACHE", str(files / "cache"))
    assert run(files, "--device", "rtl") == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: Device rtl needs verilator, g++, make to build its simulator")
    assert hint.startswith("hint: Install Verilator 5 and a C++ compiler (Debian, Ubuntu: apt install ")


def test_a_program_for_another_target_says_what_can_be_built(files, tools, capsys):
    compile(quantize(zoo.load("fashion"), "bfp8")).save(files / "fashion.gcast")
    assert run(files, "--device", "rtl") == 1
    assert "more than this hardware can be built for" in capsys.readouterr().err


def test_a_server_on_the_rtl_answers_as_the_reference_device(files, artifact, tools):
    sources = [ModelSource("default", files / "fashion.gcast")]
    opener = partial(open_session, device="rtl")
    with (
        open_session(artifact, device="reference") as reference,
        Server(sources, opener, ServerOptions(port=0, rest_port=0)) as server,
        PredictionClient(f"127.0.0.1:{server.port}") as client,
    ):
        found = client.predict({"images": [SAMPLE.data]}, timeout=60)
        expected = reference.run({"images": [SAMPLE.data]})
    assert {name: np.asarray(value).tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in expected.items()
    }


@pytest.mark.parametrize("target", ["tiny", "ecp5_85f"])
def test_the_cycle_model_is_within_one_percent(target, tools):
    artifact = compile(quantize(zoo.load("fashion"), "bfp8"), target)
    (program,) = (stage.program for stage in artifact.stages if isinstance(stage, ProgramStage))
    modelled = estimate(program)
    loaded = RtlDevice().load(program)
    loaded.run(bytes(program.inputs_bytes))
    assert abs(modelled.cycles - loaded.report["cycles"]) < 0.01 * loaded.report["cycles"]
    for record in loaded.retired:
        if UNITS[record.unit] in ("matrix", "vector"):
            assert abs(modelled.spans[record.number].cycles - record.cycles) <= max(12, 0.03 * record.cycles)
    loaded.close()
