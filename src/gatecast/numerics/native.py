"""What a server does for each request, by the C++ extension: the same bits as `array`, many times faster.

Importing this fails where the extension `gatecast._native` is missing. Ref: docs/spec/numerics.md §§1, 3.
"""

from collections.abc import Sequence

import numpy as np

from gatecast import _native

from .array import Codes, Exponents, Float32
from .formats import Format
from .operators import require_bounded


def encode_map(x: Float32, counts: Sequence[int], fmt: Format, codes: Codes, exponents: Exponents) -> bool:
    """Encode a map into the planes of a section; see `array.encode_map`."""
    return _native.encode(np.ascontiguousarray(x), counts, fmt.bits, True, codes, exponents)


def bounded(x: Float32, what: str, axes: Sequence[int] | None = None) -> Float32:
    """Return the values of a Program's input as the contract takes them; see `operators.bounded`."""
    view = x if axes is None else x.transpose(axes)
    taken = np.empty(view.shape, np.float32)
    if not _native.take_inputs(view, taken):
        require_bounded(x, what)
    return taken
