"""The training script, run on a handful of made-up pictures."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gatecast import zoo

SCRIPT = Path(__file__).parents[2] / "examples" / "train_fashion.py"


@pytest.fixture
def data(tmp_path):
    """A folder like that of the Debian package, with 64 pictures for training and 8 for testing."""
    random = np.random.default_rng(2)
    for split, count in (("train", 64), ("t10k", 8)):
        pictures = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = random.integers(0, 10, count, np.uint8)
        with gzip.open(tmp_path / f"{split}-images-idx3-ubyte.gz", "wb") as file:
            file.write(bytes(16) + pictures.tobytes())
        with gzip.open(tmp_path / f"{split}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(bytes(8) + labels.tobytes())
    return tmp_path


def run(*arguments, check=True):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_the_same_seed_writes_the_same_file_and_the_report_names_each_format(data):
    options = ("--data", data, "--epochs", 2, "--batch", 32, "--threads", 1)
    first = run(*options, "--output", data / "a.npz")
    run(*options, "--output", data / "b.npz")
    run(*options, "--output", data / "c.npz", "--seed", 2)
    files = [(data / f"{name}.npz").read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]
    assert zoo.load("fashion", weights=data / "a.npz").interface.labels == zoo.FASHION_LABELS
    assert "epoch 2/2: loss " in first.stderr
    lines = first.stdout.splitlines()
    assert lines[0].startswith("torch: ")
    assert "92842 numbers, 385688 bytes" in lines[1]
    assert [line.split()[0] for line in lines[3:]] == ["float", "bfp8", "bfp7", "bfp6", "bfp5", "bfp4"]


@pytest.mark.slow
def test_the_carried_file_can_be_reported_on_without_training(data):
    result = run("--data", data, "--weights", zoo.find_weights("fashion").path, "--pictures", 5)
    assert result.stdout.splitlines()[0].split() == ["format", "accuracy,", "%", "as", "float,", "%"]
    assert result.stderr == ""


@pytest.mark.slow
def test_missing_files_are_told_in_two_lines(data):
    result = run("--data", data, "--weights", data / "none.npz", check=False)
    assert (result.returncode, result.stderr) == (
        1,
        f"error: File {data}/none.npz must exist\nhint: Check the path.\n",
    )
    result = run("--data", data / "none", "--output", data / "a.npz", check=False)
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"]
    assert "dataset-fashion-mnist" in result.stderr
