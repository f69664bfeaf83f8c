"""Encode by the C++ extension: the same bits as `array`, and several times faster.

Importing this fails where the extension `gatecast._native` is missing. Ref: docs/spec/numerics.md §1.
"""

from collections.abc import Sequence

import numpy as np

from gatecast import _native
from gatecast.errors import FormatError

from .array import Exponents, Float32, Mantissas
from .formats import BLOCK_SIZE, Format


def encode_pixels(x: Float32, counts: Sequence[int], fmt: Format) -> tuple[Mantissas, Exponents]:
    """Round ``[…, C]`` float32 into blocks that hold `counts` channels each, from lane 0, then zeros.

    Results and errors are those of `array.encode_pixels`.
    """
    pixels = np.ascontiguousarray(x, np.float32).reshape(-1, sum(counts))
    mantissas = np.empty((len(pixels), len(counts), BLOCK_SIZE), np.int8)
    exponents = np.empty(mantissas.shape[:2], np.uint8)
    if _native.encode(pixels, counts, fmt.bits, mantissas, exponents) >= 0:
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise FormatError(f"Values of {fmt} must be finite, not {x[index]} at {list(index)}")
    shape = (*x.shape[:-1], len(counts))
    return mantissas.reshape(*shape, BLOCK_SIZE), exponents.reshape(shape)
