import os
import subprocess
import sys

CODE = """
import os
import gatecast
from gatecast import zoo

model = gatecast.compile(zoo.load("fashion"), target="software")
model.save("fashion.gcast")
with gatecast.open("fashion.gcast") as session:
    session.run({"images": [zoo.samples("fashion")[0].data]})
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""


def test_onnx_runtime_keeps_no_identifier_and_has_nothing_to_send(tmp_path):
    """Its telemetry would write both under the home folder; it is silent by itself where CI is set."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
    assert list(home.rglob("*")) == []
