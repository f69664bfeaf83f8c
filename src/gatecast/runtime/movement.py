"""Host stages that only move values about, as the unfolding of a stem does.

Such a stage is no arithmetic: where each value of its result comes from is found once, by running its model
on the numbers of the input's values; then a copy does what the model would, to the same bits by construction.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from .operators import Buffer, operators

Float32 = npt.NDArray[np.float32]
Table = npt.NDArray[np.int32]

MOVING = frozenset(
    (
        "Concat",
        "DepthToSpace",
        "Flatten",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
    )
) | {"Transpose", "Unsqueeze"}
"""Operators that copy values of their input, or constants, and compute none."""

LARGEST = 2**23
"""Most values of an input: float32 tells all their numbers apart."""


def moves_only(model: Buffer) -> bool:
    """Whether all operators of an ONNX model only move values; False for bytes that are none."""
    try:
        return operators(model) <= MOVING
    except ValueError:
        return False


def source_tables(
    run: Callable[[Float32], Sequence[Float32]], shape: Sequence[int]
) -> tuple[Table, ...] | None:
    """Where the values of a stage's results come from.

    Parameters
    ----------
    run : callable
        Runs the model, which only moves values, on its one input.
    shape : sequence of int
        Of the input.

    Returns
    -------
    tuple of int32 arrays, or None
        For each result, in its shape: the number of each value in the input, -1 for +0.0. None if a result
        has other constants, or the input is too large.
    """
    size = int(np.prod(shape))
    if not 0 < size <= LARGEST:
        return None
    numbers = np.arange(1, size + 1, dtype=np.float32).reshape(shape)
    tables = []
    for up, down in zip(run(numbers), run(-numbers), strict=True):
        if up.dtype != np.float32:
            return None
        constant = up.view(np.uint32) == down.view(np.uint32)  # all else changes its sign
        if up[constant].view(np.uint32).any():
            return None
        tables.append(up.astype(np.int32) - 1)
    return tuple(tables)
