import subprocess
import sys

import pytest

from gatecast.compat.names import MODULES

SCRIPT = """
import sys
from azureml.core import Workspace
from azureml.core.model import Model
from azureml.core.image import Image
from azureml.core.compute import AksCompute, ComputeTarget
from azureml.core.webservice import Webservice, AksWebservice
from azureml.accel import AccelOnnxConverter, AccelContainerImage, PredictionClient, client_from_service
from azureml.accel.client import PredictionClient as earlier
from azureml.exceptions import WebserviceException
import azureml.accel
assert earlier is PredictionClient
assert Workspace.__module__ == "gatecast.compat.workspace"
print("tensorflow" in sys.modules, __name__, sys.argv[1:], __file__ == sys.argv[0])
"""


def run(*arguments, cwd):
    command = [sys.executable, "-m", "gatecast.compat", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_a_script_finds_the_old_names_and_tensorflow_is_not_imported_for_them(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = run("run", "script.py", "--an", "argument", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "False __main__ ['--an', 'argument'] True\n"


def test_a_script_finds_what_lies_beside_it(tmp_path):
    (tmp_path / "beside.py").write_text("word = 'beside'")
    (tmp_path / "script.py").write_text("import beside; print(beside.word)")
    assert run("run", str(tmp_path / "script.py"), cwd="/").stdout == "beside\n"


def test_names_that_nobody_has_are_not_found(tmp_path):
    (tmp_path / "script.py").write_text("import azureml.train")
    assert (
        "ModuleNotFoundError: No module named 'azureml.train'" in run("run", "script.py", cwd=tmp_path).stderr
    )


def test_a_script_that_is_missing_is_wrong_usage(tmp_path):
    ended = run("run", "none.py", cwd=tmp_path)
    assert ended.returncode == 2
    assert "script must be a file, not none.py" in ended.stderr


def test_real_packages_are_never_replaced_unless_asked(tmp_path):
    package = tmp_path / "azureml"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "script.py").write_text("import azureml.core; print(azureml.core.Workspace.__module__)")
    refused = run("run", "script.py", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: The real package azureml must not be installed, but is\nhint: ")
    replaced = run("run", "--replace", "script.py", cwd=tmp_path)
    assert replaced.stdout == "gatecast.compat.workspace\n"


@pytest.mark.parametrize("module", [name for name in MODULES if "models" not in name])
def test_every_name_of_the_table_exists(module):
    for source, names in MODULES[module].items():
        found = __import__(f"gatecast.compat.{source}", fromlist=["_"])
        for name in found.__all__ if "*" in names else names:
            assert hasattr(found, name), (source, name)
