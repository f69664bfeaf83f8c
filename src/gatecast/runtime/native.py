"""What the extension `gatecast._native` does for the host. Importing this fails where it is missing."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gatecast import _native
from gatecast.graph import Preprocessing
from gatecast.isa import Port
from gatecast.numerics import FORMATS

from . import resizing
from .resizing import Crop

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


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


def peak_products(instruction_set: str, threads: int) -> float:
    """GMAC/s of 8-bit values by nothing but an instruction set's multiplications; 0 where it has none."""
    return _native.peak_products(instruction_set, threads)


def peak_reading(size: int, threads: int) -> float:
    """GB/s of reading so many bytes of memory again and again."""
    return _native.peak_reading(size, threads)


def legacy(pixels: UInt8, crop: Crop, preprocessing: Preprocessing) -> Float32:
    """See `resizing.legacy`."""
    image = np.empty((crop.rows, crop.columns, pixels.shape[2]), np.float32)
    place, reverse = (crop.height, crop.width, crop.top, crop.left), preprocessing.channels == "BGR"
    _native.resize_legacy(_contiguous(pixels), *place, _steps(preprocessing), reverse, image)
    return image


def antialiased(pixels: UInt8, crop: Crop, preprocessing: Preprocessing) -> Float32:
    """See `resizing.antialiased`."""
    image = np.empty((crop.rows, crop.columns, pixels.shape[2]), np.float32)
    place, reverse = (crop.height, crop.width, crop.top, crop.left), preprocessing.channels == "BGR"
    _native.resize_antialiased(_contiguous(pixels), *place, _table(preprocessing), reverse, image)
    return image


def normalise(pixels: UInt8, preprocessing: Preprocessing) -> Float32:
    """See `resizing.normalise`."""
    image = np.empty(pixels.shape, np.float32)
    _native.look_up(_contiguous(pixels), _table(preprocessing), preprocessing.channels == "BGR", image)
    return image


def _contiguous(pixels: UInt8) -> UInt8:
    return np.ascontiguousarray(pixels)


@lru_cache(64)
def _table(preprocessing: Preprocessing) -> Float32:
    """What each 8-bit value becomes in each channel, ``[256, channels]``."""
    channels = 1 if preprocessing.channels == "L" else 3
    return resizing.normalise(np.arange(256)[:, None].repeat(channels, axis=1), preprocessing)


@lru_cache(64)
def _steps(preprocessing: Preprocessing) -> list[list[float]]:
    """Numbers of divide, mean, std and scale; none where there is nothing to do."""
    channels = 1 if preprocessing.channels == "L" else 3
    by_channel = [
        np.broadcast_to(np.array(numbers, np.float32), channels).tolist() if numbers else []
        for numbers in (preprocessing.mean, preprocessing.std)
    ]
    divide, scale = (
        [number] if number != 1.0 else [] for number in (preprocessing.divide, preprocessing.scale)
    )
    return [divide, *by_channel, scale]
