import random
import struct
from pathlib import Path

import numpy as np
import pytest

from gatecast.isa import KINDS, Instruction, Port, Program, architecture, assemble

EXAMPLE = Path(__file__).parents[1] / "golden/isa/example.asm"
"""The listing of docs/spec/isa.md §9: a stem and a pool in two row tiles each, then a logit layer."""


def example_weights():
    """Two ranges of panels, and two vectors of bias between them."""
    rng = np.random.default_rng(0)
    panels = rng.integers(-127, 128, (46, 1056)).astype(np.int8).view(np.uint8)
    panels[:, 1024:] = rng.integers(120, 130, (46, 32))
    bias = rng.normal(size=(2, 32)).astype("<f4")
    return panels[:14].tobytes() + bias.tobytes() + panels[14:].tobytes()


@pytest.fixture(scope="session")
def example():
    """Make the Program of docs/spec/isa.md §9, with some of its parts changed."""
    text, weights = assemble(EXAMPLE.read_text()), example_weights()

    def make(**changes):
        parts = {
            "architecture": architecture("a10"),
            "text": text,
            "weights": weights,
            "inputs": (Port.packed("image", (16, 8, 21), "bfp8"),),
            "outputs": (Port.packed("logits", (1, 1, 10), "float32"),),
            "layers": ("image", "stem", "pool", "logits"),
            "producer": "test",
        }
        return Program(**{**parts, **changes})

    return make


@pytest.fixture(scope="session")
def random_instruction():
    """Make an instruction of a kind with random fields, from a seed; `full`: none at its default."""

    def make(name, seed, full=False):
        rng, kind, values = random.Random(f"{name} {seed}"), next(k for k in KINDS if k.name == name), {}
        for field in kind.fields:
            if field.kind == "float32":
                values[field.name] = struct.unpack("<f", struct.pack("<f", rng.uniform(-3, 3)))[0]
            else:
                low, high = field.limits
                values[field.name] = rng.choice([low, high, rng.randint(low, high)])
                while full and values[field.name] in (0, field.default):
                    values[field.name] = rng.randint(low, high)
        for view in kind.views:
            if values[f"{view}_format"] == 0:
                for part in ("address", "row", "pixel"):
                    values[f"{view}_{part}"] = 0
        return Instruction(name, **values)

    return make
