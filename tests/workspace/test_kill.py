"""SIGKILL while a workspace is changed: it stays sound, and the next open cleans up."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gatecast.workspace import State

SCRIPT = Path(__file__).with_name("kill_at_each_step.py")
LINES = {"create": 100, "register": 350, "update": 200, "delete": 200, "convert": 500}
"""At least so many lines of code are run by each change."""


def kill_at_each_step(folder, change, network, stride):
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, change],
        env={**os.environ, "NETWORK": str(network), "STRIDE": str(stride)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.splitlines()[-1]) >= LINES[change] // stride


@pytest.mark.parametrize("change", LINES)
def test_a_change_that_is_killed_is_done_or_not_done(ws, fashion, change):
    kill_at_each_step(ws.folder, change, fashion, stride=11)


@pytest.mark.slow
@pytest.mark.parametrize("change", LINES)
def test_a_change_that_is_killed_at_any_line_is_done_or_not_done(ws, fashion, change):
    kill_at_each_step(ws.folder, change, fashion, stride=1)


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6, 1.0])
def test_a_conversion_that_is_killed_fails_and_leaves_nothing(ws, fashion, check, delay):
    operation = ws.conversions.start(ws.models.register("fashion", fashion))
    time.sleep(delay)
    with ws.store.reading() as database:
        row = database.execute("SELECT process, state FROM operations").fetchone()
    if not State(row["state"]).ended:
        os.kill(int(row["process"].partition("-")[0]), 9)
    operation = ws.operations.wait(operation, timeout=30)
    type(ws).open(ws.folder)
    check(ws)
    if operation.state is State.FAILED:
        assert operation.error.startswith("Operation ended without a result: its process was killed")
        assert operation.ended_time is not None
        assert [model.id for model in ws.models.list()] == ["fashion:1"]
    else:
        assert ws.conversions.result(operation).name == "fashion.1.accelonnx"
