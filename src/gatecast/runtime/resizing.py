"""The definition of the resizes and of the arithmetic behind them, in NumPy and Pillow.

Ref: docs/spec/pictures.md. The extension does the same several times faster; see `native`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from gatecast.graph import Preprocessing

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Crop:
    """Part of a picture resized to `height` x `width`: `rows` x `columns` from (`top`, `left`)."""

    height: int
    width: int
    top: int
    left: int
    rows: int
    columns: int


def legacy(pixels: UInt8, crop: Crop, preprocessing: Preprocessing) -> Float32:
    """Resize as TensorFlow 1 does; only the part inside the crop is computed, which changes no value."""
    top, bottom, down = _taps(pixels.shape[0], crop.height, crop.top, crop.rows)
    left, right, along = _taps(pixels.shape[1], crop.width, crop.left, crop.columns)
    along, down = along[:, None], down[:, None, None]

    def blend(row: Indices) -> Float32:
        first, second = (pixels[row[:, None], column].astype(np.float32) for column in (left, right))
        return first + (second - first) * along

    upper, lower = blend(top), blend(bottom)
    return normalise(upper + (lower - upper) * down, preprocessing)


def _taps(source: int, target: int, first: int, kept: int) -> tuple[Indices, Indices, Float32]:
    """Return two source indices and the second's weight, for `kept` of `target` positions from `first`."""
    position = np.arange(first, first + kept).astype(np.float32) * (np.float32(source) / np.float32(target))
    lower = np.floor(position)
    upper = np.minimum(np.ceil(position).astype(np.int64), source - 1)
    return lower.astype(np.int64), upper, position - lower


def antialiased(pixels: UInt8, crop: Crop, preprocessing: Preprocessing) -> Float32:
    """Resize with Pillow's filter: along the rows, to 8 bits, then down the columns.

    In two steps, because from version 13 Pillow takes the other order for some sizes.
    """
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    narrow = picture.resize((crop.width, picture.height), Image.Resampling.BILINEAR)
    resized = np.asarray(narrow.resize((crop.width, crop.height), Image.Resampling.BILINEAR))
    kept = resized[crop.top : crop.top + crop.rows, crop.left : crop.left + crop.columns]
    return normalise(kept.reshape(crop.rows, crop.columns, -1), preprocessing)


def normalise(values: npt.NDArray[np.generic], preprocessing: Preprocessing) -> Float32:
    """Order the channels, then divide, mean, std, scale: each one float32 operation, where there is one."""
    result = np.asarray(values, np.float32)
    if preprocessing.channels == "BGR":
        result = result[..., ::-1]
    if preprocessing.divide != 1.0:
        result = result / np.float32(preprocessing.divide)
    if preprocessing.mean:
        result = np.subtract(result, preprocessing.mean, dtype=np.float32)
    if preprocessing.std:
        result = np.divide(result, preprocessing.std, dtype=np.float32)
    if preprocessing.scale != 1.0:
        result = result * np.float32(preprocessing.scale)
    return np.ascontiguousarray(result)
