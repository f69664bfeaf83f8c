import importlib.util
import io
import marshal
import os
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import gatecast
from gatecast import zoo
from gatecast.errors import WorkspaceError
from gatecast.workspace import distributions
from gatecast.workspace.distributions import (
    LIBRARIES,
    installed,
    libraries,
    libraries_key,
    library_entries,
    with_compiled,
)
from gatecast.workspace.layers import tar_parts
from gatecast.workspace.own_files import GATECAST, gatecast_entries, served_modules

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


class Package:
    """A distribution as far as it is looked at."""

    def __init__(self, name, version="1", requires=(), files=()):
        self.name, self.version, self.requires, self.files = name, version, list(requires), files


@pytest.fixture
def packages(monkeypatch):
    """Make these the installed distributions."""

    def packages(*given):
        known = {package.name: package for package in given}

        def distribution(name):
            if name not in known:
                raise PackageNotFoundError(name)
            return known[name]

        monkeypatch.setattr(distributions, "distribution", distribution)

    return packages


def test_the_closure_of_requirements_is_found(packages):
    packages(
        Package("gatecast", requires=["Numpy<3,>=2", "typing_Extensions>=4", "onnx>=1"]),
        Package("numpy", requires=["deep.thing[x]; extra == 'y'", "round (>=1)"]),
        Package("round", requires=["numpy"]),
        Package("typing-extensions", requires=["tomli; python_version < '3.11'", "new; sys_platform == 'x'"]),
        Package("new"),
    )
    assert [package.name for package in libraries()] == ["new", "numpy", "round", "typing-extensions"]


def test_a_requirement_that_is_not_installed_is_said(packages):
    packages(Package("gatecast", requires=["numpy"]))
    with pytest.raises(WorkspaceError) as error:
        libraries()
    assert str(error.value) == (
        "Package numpy, which gatecast requires, must be installed to be put into an image"
    )
    assert error.value.hint == "Install it: `python -m pip install numpy`."


def test_a_package_whose_files_are_not_known_is_said(packages):
    packages(Package("odd", files=None))
    with pytest.raises(WorkspaceError, match="Package odd must be installed with a list of its files"):
        installed("odd")


def test_what_serving_never_needs_is_left_out():
    names = {package.name for package in libraries()}
    assert {"numpy", "onnxruntime", "grpcio", "protobuf", "pillow", "starlette", "uvicorn"} <= names
    assert not {"onnx", "torch", "tensorflow-cpu", "pygments", "pytest", "gatecast"} & names


def test_files_of_a_library_come_without_tests_records_and_scripts():
    paths = [entry.path for entry in library_entries([installed("numpy"), installed("uvicorn")])]
    assert f"{LIBRARIES}/numpy/__init__.py" in paths
    assert f"{LIBRARIES}/numpy/__pycache__/__init__.{sys.implementation.cache_tag}.pyc" in paths
    assert any(path.startswith(f"{LIBRARIES}/numpy.libs/") for path in paths)
    assert [p for p in paths if "/tests/" in p or p.endswith((".pyi", ".h", "/RECORD")) or ".." in p] == []
    licences = [path for path in paths if "LICENSE" in path]
    assert licences, "what is copied is copied with its licence"


def test_the_key_of_libraries_changes_with_what_they_are(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = libraries_key([installed("click")])
    assert first == libraries_key([installed("click")])
    assert first != libraries_key([installed("click"), installed("h11")])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert first != libraries_key([installed("click")])


def test_a_module_is_compiled_once_and_never_compared_with_its_source(tmp_path):
    source = tmp_path / "m.py"
    source.write_text("def f():\n    return __file__, {'b', 'a'}\n")
    plain, compiled = with_compiled("opt/x/m.py", source)
    assert plain.path == "opt/x/m.py"
    assert compiled.path == f"opt/x/__pycache__/m.{sys.implementation.cache_tag}.pyc"
    data = compiled.open().read()
    assert data[:8] == importlib.util.MAGIC_NUMBER + b"\x01\0\0\0"
    assert data[8:16] == importlib.util.source_hash(source.read_bytes())
    assert marshal.loads(data[16:]).co_filename == "/opt/x/m.py"


def test_compiled_modules_do_not_depend_on_the_process(tmp_path):
    source = tmp_path / "m.py"
    extra = b"\nX = {'a', 'b', 'c', 1, 2.5}\nY = 'a' in {'x', 'y'}\n"
    source.write_bytes(Path(distributions.__file__).read_bytes() + extra)
    program = (
        "import sys; from pathlib import Path; from gatecast.workspace.distributions import with_compiled\n"
        "sys.stdout.buffer.write(list(with_compiled('m.py', Path(sys.argv[1])))[1].open().read())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program, source],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in "123"
    }
    _, here = with_compiled("m.py", source)
    assert seen == {here.open().read()}


@pytest.mark.parametrize("text", ["{% template %}", "print 'two'", "\0", "# -*- coding: nothing -*-"])
def test_what_is_no_module_is_copied_as_it_is(text, tmp_path):
    source = tmp_path / "m.py"
    source.write_text(text)
    assert [entry.path for entry in with_compiled("m.py", source)] == ["m.py"]


def test_no_compiler_and_no_hardware_is_in_an_image():
    contracts = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]
    (forbidden,) = (c["forbidden_modules"] for c in contracts if c["id"] == "runtime")
    found, above = served_modules(), ("gatecast.workspace", "gatecast.compat", "gatecast.client")
    assert [name for name in found if name.startswith((*forbidden, *above))] == []
    assert {"gatecast.serving.server", "gatecast.runtime.session", "gatecast.devices.software"} <= set(found)


def test_the_devices_of_an_image_are_those_whose_modules_are_in_it():
    entries = {entry.path: entry for entry in gatecast_entries()}
    metadata = f"{GATECAST}/gatecast-{gatecast.__version__}.dist-info"
    points = entries[f"{metadata}/entry_points.txt"].open().read().decode()
    assert "[gatecast.devices]\nreference = gatecast.devices.reference:" in points
    assert "rtl" not in points
    assert f"{GATECAST}/gatecast/protocol/serving.proto" in entries


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Gatecast's own files as they lie in an image, and links to the libraries that lie beside them."""
    folder = tmp_path_factory.mktemp("image")
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_parts(gatecast_entries())))) as tar:
        tar.extractall(folder, filter="data")
    (folder / LIBRARIES).mkdir()
    for package in libraries():
        for top in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
            link = folder / LIBRARIES / top
            link.exists() or link.symlink_to(package.locate_file(top))
    return folder


PROGRAM = """
import sys, importlib.util
import gatecast, gatecast.cli.serve
from gatecast.devices import device_names
with open(sys.argv[2], "rb") as picture, gatecast.open(sys.argv[1]) as session:
    (scores,) = session.run({"images": [picture.read()]}).values()
print(gatecast.__file__)
print(*device_names(), session.labels[scores.argmax()])
print([name for name in ("gatecast.compiler", "onnx", "pygments") if importlib.util.find_spec(name)])
"""


def test_the_files_in_an_image_run_a_model_by_themselves(unpacked, tmp_path):
    gatecast.compile(gatecast.quantize(zoo.load("fashion"))).save(tmp_path / "fashion.gcast")
    sample = zoo.samples("fashion")[0]
    (tmp_path / "picture.png").write_bytes(sample.data)
    done = subprocess.run(
        [sys.executable, "-SP", "-c", PROGRAM, tmp_path / "fashion.gcast", tmp_path / "picture.png"],
        env={"PYTHONPATH": f"{unpacked / GATECAST}:{unpacked / LIBRARIES}", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    file, answer, absent = done.stdout.splitlines()
    assert file == f"{unpacked}/{GATECAST}/gatecast/__init__.py"
    assert answer == f"reference software {sample.name}"
    assert absent == "[]"
