from importlib import import_module

import numpy as np
import pytest

from gatecast.devices import default_device, open_device
from gatecast.devices.reference.memory import Memory
from gatecast.isa import Program, architecture
from gatecast.numerics import BLOCK_SIZE, FORMATS

REGION = 256
"""Blocks of each region of activation memory: `in` or `a`, `residual` or `b`, `out`."""


SETS = import_module("gatecast.devices.software").instruction_sets() if default_device() == "software" else ()
"""Instruction sets of the software device that this machine can run; none where the extension is missing."""


@pytest.fixture(
    params=["reference", *(f"{name}-{threads}" for name in SETS for threads in (1, 3))],
)
def device(request):
    """Each device that runs here: the software device with each instruction set, and 1 and 3 threads."""
    if request.param == "reference":
        return open_device("reference")
    name, threads = request.param.split("-")
    return import_module("gatecast.devices.software").SoftwareDevice(int(threads), name)


@pytest.fixture
def filled():
    """Make a Memory for one instruction, filled with random blocks, panels and vectors.

    Activation memory and vector memory have three regions of 256: the first two hold operands.
    """

    def make(formats, weight_format="bfp8", seed=0):
        rng = np.random.default_rng(seed)
        memory = Memory(Program(architecture("tiny"), ()))
        size = 3 * REGION
        memory.mantissas, memory.exponents = _blocks(rng, ["bfp4"] * 3, (REGION,))
        for region, name in enumerate(formats):
            if name in FORMATS:
                part = slice(region * REGION, (region + 1) * REGION)
                memory.mantissas[part], memory.exponents[part] = _blocks(rng, [name], (REGION,))
        memory.panels, memory.panel_exponents = _blocks(rng, [weight_format], (24, BLOCK_SIZE))
        memory.vectors = rng.normal(size=(size, BLOCK_SIZE)).astype(np.float32)
        memory.vectors[rng.random(memory.vectors.shape) < 0.1] = 0
        return memory

    return make


def _blocks(rng, names, shape):
    mantissas, exponents = [], []
    for name in names:
        limit = FORMATS[name].mantissa_max
        found = rng.integers(-limit, limit + 1, (*shape, BLOCK_SIZE))
        found[rng.random(found.shape) < 0.2] = limit
        found[rng.random(shape) < 0.1] = 0
        mantissas.append(found.astype(np.int8))
        exponents.append((127 + rng.integers(-6, 7, shape)).astype(np.uint8))
    return np.concatenate(mantissas), np.concatenate(exponents)


@pytest.fixture
def case():
    """Make fields of random convolutions, pools and maps that stay within the memories of `filled`."""

    def make(kind, seed):
        return _CASES[kind](np.random.default_rng(seed))

    return make


def _pick(rng, *options):
    return options[rng.integers(len(options))]


def _view(name, region, fmt, blocks, columns):
    row = columns * blocks
    return {
        f"{name}_address": region * REGION,
        f"{name}_format": fmt,
        f"{name}_row": row,
        f"{name}_pixel": blocks,
    }


def _window(rng):
    kernel_rows, kernel_columns = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    return {
        "in_rows": int(rng.integers(2, 7)),
        "in_columns": int(rng.integers(2, 7)),
        "in_y": -int(rng.integers(0, kernel_rows)),
        "in_x": -int(rng.integers(0, kernel_columns)),
        "kernel_rows": kernel_rows,
        "kernel_columns": kernel_columns,
        "stride_y": int(rng.integers(1, 3)),
        "stride_x": int(rng.integers(1, 3)),
    }


def _outputs(fields, axis, part):
    """As many outputs as leave each window at least one position inside."""
    return (fields[f"in_{part}"] - 1 - fields[f"in_{axis}"]) // fields[f"stride_{axis}"] + 1


def _convolve(rng):
    fields = _window(rng)
    group = _pick(rng, 0, 0, 1, 2)
    in_blocks, out_blocks = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    while fields["kernel_rows"] * fields["kernel_columns"] * in_blocks * out_blocks > 24:
        in_blocks, out_blocks = 1, max(1, out_blocks - 1)
    stored = in_blocks * (-(-out_blocks // group) if group else 1)
    rows, columns = min(3, _outputs(fields, "y", "rows")), min(3, _outputs(fields, "x", "columns"))
    suspend = _pick(rng, 0, 0, 0, 1)
    fields |= _view("in", 0, _pick(rng, *FORMATS), stored, fields["in_columns"])
    fields |= {
        "dilation_y": _pick(rng, 1, 1, 2),
        "dilation_x": _pick(rng, 1, 1, 2),
        "in_blocks": in_blocks,
        "group_blocks": group,
        "weights": int(rng.integers(24)),
        "weight_format": _pick(rng, *FORMATS),
        "out_rows": rows,
        "out_columns": columns,
        "out_blocks": out_blocks,
        "resume": _pick(rng, 0, 1),
        "suspend": suspend,
        "partials": 40,
    }
    if not suspend:
        fields |= _view("out", 2, _pick(rng, "float32", *FORMATS), out_blocks, columns)
        fields |= _epilogue(rng, out_blocks, columns, "residual")
        fields |= {"has_bias": _pick(rng, 0, 1), "bias": 8, "last_channels": _pick(rng, 32, 32, 10)}
    return fields


def _epilogue(rng, blocks, columns, operand):
    fields = {"has_scale": _pick(rng, 0, 1), "scale": 16, "shift": 24, "activation": _pick(rng, 0, 1, 2)}
    if fields["activation"] == 2:
        fields |= {"low": -0.5, "high": 1.25}
    if _pick(rng, 0, 1):
        fields |= _view(operand, 1, _pick(rng, "float32", *FORMATS), blocks, columns)
    return fields


def _pool(rng):
    fields, blocks, operation = _window(rng), int(rng.integers(1, 3)), _pick(rng, 0, 1)
    rows, columns = _outputs(fields, "y", "rows"), _outputs(fields, "x", "columns")
    fields |= _view("in", 0, _pick(rng, *FORMATS), blocks, fields["in_columns"])
    fields |= _view("out", 2, _pick(rng, "float32", *FORMATS), blocks, columns)
    fields |= {"out_rows": rows, "out_columns": columns, "out_blocks": blocks, "operation": operation}
    return fields | ({"factor": 1 / 9} if operation else {})


def _map(rng):
    rows, columns, blocks = int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    operation = int(rng.integers(6))
    fields = _epilogue(rng, blocks, columns, "b")
    if operation and "b_format" not in fields:
        fields |= {"b_address": REGION, "b_format": _pick(rng, *FORMATS)}  # one pixel for all
    if not operation:
        fields = {name: value for name, value in fields.items() if not name.startswith("b_")}
    if activation := _pick(rng, 0, 3, 4, 5):
        fields |= {"activation": activation, "low": 0.2, "high": 0.0 if activation == 3 else 0.5}
    fields |= _view("a", 0, _pick(rng, "float32", *FORMATS), blocks, columns)
    fields |= _view("out", 2, _pick(rng, "float32", *FORMATS), blocks, columns)
    fields |= {"repeat_y": _pick(rng, 1, 2, 3), "repeat_x": _pick(rng, 1, 2), "operation": operation}
    fields |= {"out_rows": rows, "out_columns": columns, "out_blocks": blocks}
    return fields | {"last_channels": _pick(rng, 32, 32, 7)}


_CASES = {"convolve": _convolve, "pool": _pool, "map": _map}
