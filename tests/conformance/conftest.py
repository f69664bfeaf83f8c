import shutil

import numpy as np
import pytest

from gatecast.cosim import MemoryTiming, RtlDevice
from gatecast.devices import open_device


@pytest.fixture(scope="session")
def tools():
    """Skip without what builds and simulates the NPU."""
    if missing := [tool for tool in ("verilator", "g++", "make") if shutil.which(tool) is None]:
        pytest.skip(f"needs Verilator: no {', '.join(missing)} on PATH")


def timing(seed):
    """Memory with a latency and stalls of its own for each seed."""
    rng = np.random.default_rng(seed)
    stalls = float(rng.choice([0, 0.1, 0.5]))
    return MemoryTiming(
        latency=int(rng.integers(1, 60)), rate=float(rng.uniform(0.2, 1)), stalls=stalls, seed=seed
    )


@pytest.fixture
def both(tools):
    """Run a Program on the reference device and on the RTL; return the two sections `outputs`."""

    def run(program, inputs, seed=0):
        expected = open_device("reference").load(program).run(inputs)
        loaded = RtlDevice(timing=timing(seed)).load(program)
        try:
            return loaded.run(inputs), expected
        finally:
            loaded.close()

    return run
