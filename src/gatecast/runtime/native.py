"""What the extension `gatecast._native` does for the host. Importing this fails where it is missing."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gatecast import _native
from gatecast.isa import Port
from gatecast.numerics import FORMATS

Float32 = npt.NDArray[np.float32]


class Gather:
    """A rearrangement: each value of the result is one of the source, known which, or +0.0.

    Parameters
    ----------
    table : int32 ``[rows, columns, channels]``
        Number of each value in the source; -1 for +0.0.
    counts : sequence of int
        How many channels each block holds; they add up to the channels.
    source : int
        How many values the source has.
    """

    def __init__(self, table: npt.NDArray[np.int32], counts: Sequence[int], source: int) -> None:
        self._shape = table.shape
        self._native = _native.Gather(np.ascontiguousarray(table), counts, source)

    def copy(self, source: Float32) -> Float32:
        """Return the result, ``[rows, columns, channels]``."""
        result = np.empty(self._shape, np.float32)
        self._native.copy(np.ascontiguousarray(source), result)
        return result

    def encode(self, source: Float32, port: Port, section: npt.NDArray[np.uint8]) -> bool:
        """Encode the result into the section of a port; its other bytes stay.

        False if a value is not finite or beyond 2**64; what was written then means nothing.
        """
        planes = port.map.values_of(section), port.map.exponents_of(section)
        return self._native.encode(np.ascontiguousarray(source), FORMATS[port.format].bits, *planes)
