"""Pictures to tensors: decode, resize, crop, normalise, as a `Preprocessing` declares it.

The bits are part of the definition: docs/spec/pictures.md.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from gatecast.errors import ImageError
from gatecast.graph import Preprocessing

from . import resizing
from .decoding import MAX_PIXELS, UInt8, decode_pixels
from .resizing import Crop

Float32 = npt.NDArray[np.float32]


class Resizer(Protocol):
    """Makes float32 ``[height, width, channels]`` of 8-bit values: `resizing`, or `native` with its bits."""

    def legacy(self, pixels: UInt8, crop: Crop, preprocessing: Preprocessing) -> Float32:
        """Resize as TensorFlow 1, crop and normalise."""
        ...

    def antialiased(self, pixels: UInt8, crop: Crop, preprocessing: Preprocessing) -> Float32:
        """Resize as Pillow, crop and normalise."""
        ...

    def normalise(self, values: UInt8, preprocessing: Preprocessing) -> Float32:
        """Only normalise."""
        ...


try:
    from . import native

    resizer: Resizer = native
except ImportError:
    resizer = resizing


def decode_image(data: bytes, preprocessing: Preprocessing) -> Float32:
    """Return the tensor that `preprocessing` makes of an encoded picture: float32 [height, width, channels].

    Raises
    ------
    ImageError
        As `decode_pixels`, or the picture has not the size that the preprocessing needs.
    """
    pixels = decode_pixels(data, preprocessing.channels)
    height, width = pixels.shape[:2]
    match preprocessing.resize:
        case "antialiased_bilinear":
            return resizer.antialiased(pixels, torchvision_crop(height, width, preprocessing), preprocessing)
        case "legacy_bilinear":
            return resizer.legacy(pixels, tensorflow_crop(height, width, preprocessing), preprocessing)
    if (height, width) != (preprocessing.height, preprocessing.width):
        raise ImageError(
            f"Picture for preprocessing {preprocessing.name!r} must be {preprocessing.width} x "
            f"{preprocessing.height} pixels, not {width} x {height}",
            hint="Resize the picture, or choose a preprocessing that resizes.",
        )
    return resizer.normalise(pixels, preprocessing)


def tensorflow_crop(rows: int, columns: int, preprocessing: Preprocessing) -> Crop:
    """Sizes in float32, as the original's graph computes them; the crop is the centre, rounded down."""
    height, width = preprocessing.height, preprocessing.width
    if preprocessing.short_side is not None:
        scale = np.float32(preprocessing.short_side) / np.float32(min(rows, columns))
        height, width = int(np.float32(rows) * scale), int(np.float32(columns) * scale)
    _check_crop(height, width, preprocessing)
    top, left = (height - preprocessing.height) // 2, (width - preprocessing.width) // 2
    return Crop(height, width, top, left, preprocessing.height, preprocessing.width)


def torchvision_crop(rows: int, columns: int, preprocessing: Preprocessing) -> Crop:
    """Sizes and crop of torchvision's Resize and CenterCrop."""
    height, width = preprocessing.height, preprocessing.width
    if (short := preprocessing.short_side) is not None:
        long = int(short * max(rows, columns) / min(rows, columns))
        height, width = (long, short) if rows > columns else (short, long)
    _check_crop(height, width, preprocessing)
    top, left = round((height - preprocessing.height) / 2), round((width - preprocessing.width) / 2)
    return Crop(height, width, top, left, preprocessing.height, preprocessing.width)


def _check_crop(height: int, width: int, preprocessing: Preprocessing) -> None:
    if height < preprocessing.height or width < preprocessing.width:
        raise ImageError(
            f"Picture for preprocessing {preprocessing.name!r} must be at least {preprocessing.width} x "
            f"{preprocessing.height} pixels after resizing, not {width} x {height}"
        )
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"Picture must have at most {MAX_PIXELS} pixels after resizing, not {width} x {height}"
        )
