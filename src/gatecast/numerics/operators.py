"""Activations and the limits of constants, float32, one rounding for each operation.

Ref: docs/spec/numerics.md §3.
"""

from collections.abc import Sequence

import numpy as np

from gatecast.errors import RequestError

from .array import Float32
from .formats import LARGEST, SMALLEST

SCALE_SMALLEST, SCALE_LARGEST = 2.0**-16, 2.0**8
"""Magnitudes of scales, slopes, alphas and the pools' factors."""

NO_LIMIT = 2.0**127
"""A clip limit that is missing is this, with its sign."""


def relu(x: Float32) -> Float32:
    """``x if x > 0 else +0.0``."""
    return np.where(x > 0, x, np.float32(0))


def clip(x: Float32, low: float, high: float) -> Float32:
    """``low if x < low else high if x > high else x``."""
    lowest, highest = np.float32(low), np.float32(high)
    return np.where(x < lowest, lowest, np.where(x > highest, highest, x))


def leaky_relu(x: Float32, slope: float) -> Float32:
    """``max(x, fl32(slope * x))`` for a slope between 0 and 1."""
    result: Float32 = np.maximum(x, np.float32(slope) * x)
    return result


def hard_sigmoid(x: Float32, alpha: float, beta: float) -> Float32:
    """``clip(fl32(fl32(alpha * x) + beta), 0, 1)``."""
    return clip(np.float32(alpha) * x + np.float32(beta), 0.0, 1.0)


def hard_swish(x: Float32, alpha: float = 1 / 6, beta: float = 0.5) -> Float32:
    """``fl32(x * hard_sigmoid(x))``."""
    return x * hard_sigmoid(x, alpha, beta)


def flush_small(x: Float32) -> Float32:
    """Replace magnitudes below 2**-80 by +0.0."""
    return np.where(np.abs(x) < np.float32(SMALLEST), np.float32(0), x)


def bounded(x: Float32, what: str, axes: Sequence[int] | None = None) -> Float32:
    """Return the values of a Program's input as the contract takes them: `flush_small`, transposed by `axes`.

    Contiguous. RequestError as `require_bounded`; its index is that in `x`.
    """
    require_bounded(x, what)
    return np.asarray(flush_small(x if axes is None else x.transpose(axes)), order="C")


def require_bounded(x: Float32, what: str) -> None:
    """Refuse values that are no input of a Program.

    Raises
    ------
    RequestError
        A value is not finite or beyond 2**64; `what`, the value and its index are named.
    """
    if x.size and not (x.min() >= -LARGEST and x.max() <= LARGEST):  # both are NaN if one value is
        good = np.abs(x) <= np.float32(LARGEST)
        index = [int(i) for i in np.argwhere(~good)[0]]
        raise RequestError(
            f"Values of {what} must be finite and at most 2**64, not {x[tuple(index)]} at {index}",
            hint="Look for a division by zero or a wrong scale in what prepares the input.",
        )


def average_factor(count: int) -> np.float32:
    """``fl32(1 / count)``: what an average pool's sum is multiplied with."""
    return np.float32(1.0 / count)
