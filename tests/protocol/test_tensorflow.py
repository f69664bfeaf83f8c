import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_program_may_import_tensorflow_too_and_they_agree():
    script = Path(__file__).with_name("beside_tensorflow.py")
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, env=quiet)
    assert (done.returncode, done.stdout.strip()) == (0, "OK"), done.stderr[-3000:]
