"""`pool`, `map`, and the end of every instruction that makes values. See docs/spec/isa.md §6.

Each step is one float32 operation, in the order of docs/spec/numerics.md §3.
"""

from collections.abc import Callable

import numpy as np

from ...isa import Activation, Instruction, MapOperation, PoolOperation, taps
from ...numerics import clip, hard_sigmoid, hard_swish, leaky_relu, relu
from .memory import Float32, Memory


def pool(memory: Memory, instruction: Instruction) -> None:
    """Maximum or average of the window's positions inside the map."""
    window = memory.window(instruction, instruction.out_blocks)
    inside = _inside(instruction, "y", window.shape[0])[:, None] & _inside(instruction, "x", window.shape[1])
    average = instruction.operation == PoolOperation.AVERAGE
    window = np.where(inside[..., None, None], window, np.float32(0.0 if average else -np.inf))
    shape = (instruction.out_rows, instruction.out_columns, *window.shape[2:])
    values = np.full(shape, 0.0 if average else -np.inf, np.float32)
    for ky in range(instruction.kernel_rows):
        for kx in range(instruction.kernel_columns):
            tap = window[ky :: instruction.stride_y, kx :: instruction.stride_x][: shape[0], : shape[1]]
            values = values + tap if average else np.maximum(values, tap)
    finish(memory, instruction, values * np.float32(instruction.factor) if average else values)


def _inside(instruction: Instruction, axis: str, span: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which positions of the window's span are stored and reached by a tap."""
    found = np.zeros(span, bool)
    found[taps(instruction, axis) - getattr(instruction, f"in_{axis}")] = True
    return found


_OPERATIONS: dict[MapOperation, Callable[[Float32, Float32], Float32]] = {
    MapOperation.ADD: np.add,
    MapOperation.SUBTRACT: np.subtract,
    MapOperation.MULTIPLY: np.multiply,
    MapOperation.MAXIMUM: np.maximum,
    MapOperation.MINIMUM: np.minimum,
}


def map_values(memory: Memory, instruction: Instruction) -> None:
    """One operation on one or two maps, value by value."""
    rows, columns = instruction.out_rows, instruction.out_columns
    up, across, blocks = instruction.repeat_y, instruction.repeat_x, instruction.out_blocks
    values = memory.read(instruction.view("a"), (-(-rows // up), -(-columns // across), blocks))
    values = values.repeat(up, axis=0)[:rows].repeat(across, axis=1)[:, :columns]
    if instruction.operation != MapOperation.COPY:
        other = memory.read(instruction.view("b"), (rows, columns, blocks))
        values = _OPERATIONS[MapOperation(instruction.operation)](values, other)
    finish(memory, instruction, activate(instruction, affine(memory, instruction, values)))


def affine(memory: Memory, instruction: Instruction, values: Float32) -> Float32:
    """Multiply by the scale, then add the shift, where the instruction has them."""
    if not instruction.has_scale:
        return values
    count = instruction.out_blocks
    scaled = values * memory.vectors[instruction.scale :][:count]
    shifted: Float32 = scaled + memory.vectors[instruction.shift :][:count]
    return shifted


def activate(instruction: Instruction, values: Float32) -> Float32:
    """Activation of `convolve` or `map`."""
    low, high = instruction.low, instruction.high
    match Activation(instruction.activation):
        case Activation.NONE:
            return values
        case Activation.RELU:
            return relu(values)
        case Activation.CLIP:
            return clip(values, low, high)
        case Activation.LEAKY_RELU:
            return leaky_relu(values, low)
        case Activation.HARD_SIGMOID:
            return hard_sigmoid(values, low, high)
        case Activation.HARD_SWISH:
            return hard_swish(values, low, high)


def finish(memory: Memory, instruction: Instruction, values: Float32) -> None:
    """Make zeros +0.0, clear the lanes from `last_channels`, encode or keep float32, and write."""
    values = values + np.float32(0)
    if instruction.has("last_channels"):
        values[:, :, -1, instruction.last_channels :] = 0
    memory.write(instruction.view("out"), values)
