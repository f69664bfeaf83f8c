"""Document 000, "Deploy ML models to FPGAs", runs: every Python block of it, in order, as one script.

So do its translations 002 to 004, of other years, with the same edits. Document 001 is of an older API.
"""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gatecast.workspace import Workspace

from .document import EDITS, VARIABLE, document, edited, edits_as_table, python_blocks

GUIDE = Path(__file__).parents[2] / "docs/guides/azureml.md"
PICTURE, LABELS = "images/azure_samples/snowleopardgaze.jpg", "labels/imagenet_classes.txt"
BLOCKS = {"000": 22, "002": 22, "003": 17, "004": 17}
TRANSLATIONS = ("002", "003", "004")


def blocks_of(number):
    text = document(number)
    if text is None:
        pytest.skip(f"{VARIABLE} is not set: the documents of the old service are not here")
    return python_blocks(text)


@pytest.fixture(scope="module")
def data():
    folder = os.environ.get("GATECAST_TEST_DATA")
    if not folder:
        pytest.skip("GATECAST_TEST_DATA is not set: no weights and pictures")
    return Path(folder)


@pytest.fixture(scope="module")
def labels(data):
    """Address of the file of class names, served on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=data / "labels")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{Path(LABELS).name}"
        server.shutdown()


@pytest.mark.parametrize("number", BLOCKS)
def test_every_block_is_found(number):
    assert len(blocks_of(number)) == BLOCKS[number]


def test_every_edit_is_needed():
    text = "\n".join(blocks_of("000"))
    assert [edit.old for edit in EDITS if edit.old not in text] == []


def test_the_guide_lists_the_edits():
    assert edits_as_table() in GUIDE.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", ["000", *(pytest.param(n, marks=pytest.mark.slow) for n in TRANSLATIONS)])
def test_the_document_runs_and_the_snow_leopard_comes_first(number, data, labels, tmp_path):
    """Nothing is left in the workspace at the end, and nothing runs."""
    workspace = Workspace.create(tmp_path / "work", name="old-workspace")
    (workspace.folder / "snowleopardgaze.jpg").write_bytes((data / PICTURE).read_bytes())
    script = workspace.folder / "document.py"
    script.write_text("\n\n".join(edited(blocks_of(number), labels)), encoding="utf-8")
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "gatecast.compat", "run", str(script)],
        cwd=workspace.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    told = run.stdout
    assert told.startswith("old-workspace\nlocal\nlocal\n")
    assert "(?, 224, 224, 3)" in told and "(?, 1, 1, 2048)" in told
    assert "Successfully registered: \tresnet50" in told
    assert "Successfully converted:  resnet50.1.accelonnx gatecast://old-workspace/models/" in told
    assert "resnet50-image(v.1 [Succeeded]) stored at" in told
    first = next(line for line in told.splitlines() if "confidence:" in line)
    assert first.startswith("snow leopard")
    left = [
        workspace.models.list(),
        workspace.images.list(),
        workspace.computes.list(),
        workspace.services.list(),
    ]
    assert left == [[], [], [], []]
