import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["gatecast.serving", "gatecast.client"])
def test_no_heavy_library_comes_along(package):
    heavy = {"torch", "tensorflow", "amaranth", "onnx", "onnxruntime", "PIL"}
    if package == "gatecast.client":
        heavy |= {"starlette", "uvicorn", "gatecast.serving", "gatecast.graph"}
    code = f"import sys, {package}; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
