"""Pictures to tensors: decode, resize, crop, normalise, as a `Preprocessing` declares it.

The bits are part of the definition. JPEG is decoded with the accurate integer DCT, as Pillow does it;
``legacy_bilinear`` computes in float32 what TensorFlow 1's ResizeBilinear computes, operation by operation;
``antialiased_bilinear`` is Pillow's filter on 8-bit values with torchvision's sizes.
"""

import struct
import zlib
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, PngImagePlugin

from gatecast.errors import ImageError
from gatecast.graph import Preprocessing

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

MAX_BYTES = 64 * 2**20
"""Of one encoded picture."""

MAX_PIXELS = 2**26
"""Of one picture, read from its header before anything is decoded."""

_READERS = (
    (b"\xff\xd8\xff", "JPEG", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImagePlugin.PngImageFile),
)
# What Pillow raises for damaged files. MemoryError is not among them: it is not the picture's fault.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError)
_DECODING_ERRORS = (*_DAMAGE, struct.error, zlib.error)


def decode_image(data: bytes, preprocessing: Preprocessing) -> Float32:
    """Return the tensor that `preprocessing` makes of an encoded picture: float32 [height, width, channels].

    The first frame of a JPEG or PNG. Grey becomes three equal channels, alpha is dropped, 16-bit values keep
    their upper byte, and the orientation that EXIF asks for is ignored, all as TensorFlow's decode_png does.

    Raises
    ------
    ImageError
        The bytes are no whole JPEG or PNG, are more than `MAX_BYTES`, stand for more than `MAX_PIXELS`, or
        the picture has not the size that the preprocessing needs.
    """
    picture = _open(data)
    if preprocessing.resize == "antialiased_bilinear":
        values = _antialiased(_channels(picture, preprocessing.channels), preprocessing)
    else:
        pixels = _pixels(_channels(picture, preprocessing.channels))
        resize = _legacy if preprocessing.resize == "legacy_bilinear" else _exact
        values = resize(pixels, preprocessing)
    return _normalise(values, preprocessing)


def _open(data: bytes) -> Image.Image:
    """Return the decoded picture, in whatever mode the file has."""
    if len(data) > MAX_BYTES:
        raise ImageError(f"Picture must have at most {MAX_BYTES} bytes, not {len(data)}")
    kind, reader = _reader(data)
    try:
        picture = reader(BytesIO(data))
        _check_size(*picture.size)
        picture.load()
    except ImageError:
        raise
    except _DECODING_ERRORS as error:
        raise ImageError(f"Picture of {len(data)} bytes must be a whole {kind}: {error}") from error
    return picture


def _reader(
    data: bytes,
) -> tuple[str, type[JpegImagePlugin.JpegImageFile] | type[PngImagePlugin.PngImageFile]]:
    for magic, kind, reader in _READERS:
        if data[: len(magic)] == magic:
            return kind, reader
    found = f"one that starts with {data[:4].hex(' ')}" if data else "nothing"
    raise ImageError(f"Picture must be a JPEG or PNG file, not {found}")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"Picture must have at most {MAX_PIXELS} pixels, not {width} x {height} = {width * height}",
            hint="Send a smaller picture; networks of this kind read a few hundred pixels a side.",
        )


def _channels(picture: Image.Image, channels: str) -> Image.Image:
    """Return the picture in mode L or RGB (which is also what BGR starts from)."""
    picture.info.pop("transparency", None)  # else Pillow would look for a colour to stand for it
    if picture.mode.startswith("I"):
        upper = np.asarray(picture).astype(np.uint16) >> 8
        picture = Image.fromarray(upper.astype(np.uint8))
    elif picture.mode == "CMYK":
        picture = Image.fromarray(_rgb_from_cmyk(np.asarray(picture)))
    elif picture.mode in ("LA", "RGBA"):
        picture = picture.convert(picture.mode[:-1])
    if picture.mode == "P":
        picture = picture.convert("RGB")
    return picture.convert("L" if channels == "L" else "RGB")


def _rgb_from_cmyk(cmyk: UInt8) -> UInt8:
    """Return TensorFlow's RGB: each ink times black, the quotient by 255 rounded down."""
    light = 255 - cmyk.astype(np.int32)
    return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)


def _pixels(picture: Image.Image) -> UInt8:
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _exact(pixels: UInt8, preprocessing: Preprocessing) -> Float32:
    height, width = pixels.shape[:2]
    if (height, width) != (preprocessing.height, preprocessing.width):
        raise ImageError(
            f"Picture for preprocessing {preprocessing.name!r} must be {preprocessing.width} x "
            f"{preprocessing.height} pixels, not {width} x {height}",
            hint="Resize the picture, or choose a preprocessing that resizes.",
        )
    return pixels.astype(np.float32)


def _legacy(pixels: UInt8, preprocessing: Preprocessing) -> Float32:
    """Resize as TensorFlow 1 does; only the part inside the crop is computed, which changes no value."""
    rows, columns = pixels.shape[:2]
    height, width = preprocessing.height, preprocessing.width
    if preprocessing.short_side is not None:
        scale = np.float32(preprocessing.short_side) / np.float32(min(rows, columns))
        height, width = int(np.float32(rows) * scale), int(np.float32(columns) * scale)
    _check_crop(height, width, preprocessing)
    top, bottom, down = _taps(rows, height, preprocessing.height)
    left, right, along = _taps(columns, width, preprocessing.width)
    along, down = along[:, None], down[:, None, None]

    def blend(row: Indices) -> Float32:
        first, second = (pixels[row[:, None], column].astype(np.float32) for column in (left, right))
        return first + (second - first) * along

    upper, lower = blend(top), blend(bottom)
    return upper + (lower - upper) * down


def _taps(source: int, target: int, kept: int) -> tuple[Indices, Indices, Float32]:
    """Return the two source indices and the second's weight, for the central `kept` of `target` positions."""
    first = (target - kept) // 2
    position = np.arange(first, first + kept).astype(np.float32) * (np.float32(source) / np.float32(target))
    lower = np.floor(position)
    upper = np.minimum(np.ceil(position).astype(np.int64), source - 1)
    return lower.astype(np.int64), upper, position - lower


def _antialiased(picture: Image.Image, preprocessing: Preprocessing) -> Float32:
    """Resize and crop as torchvision's Resize and CenterCrop do with a Pillow image."""
    height, width = preprocessing.height, preprocessing.width
    if (short := preprocessing.short_side) is not None:
        long = int(short * max(picture.size) / min(picture.size))
        height, width = (long, short) if picture.height > picture.width else (short, long)
    _check_crop(height, width, preprocessing)
    resized = _pixels(picture.resize((width, height), Image.Resampling.BILINEAR))
    top, left = round((height - preprocessing.height) / 2), round((width - preprocessing.width) / 2)
    crop = resized[top : top + preprocessing.height, left : left + preprocessing.width]
    return crop.astype(np.float32)


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


def _normalise(values: Float32, preprocessing: Preprocessing) -> Float32:
    if preprocessing.channels == "BGR":
        values = values[..., ::-1]
    if preprocessing.divide != 1.0:
        values = values / np.float32(preprocessing.divide)
    if preprocessing.mean:
        values = np.subtract(values, preprocessing.mean, dtype=np.float32)
    if preprocessing.std:
        values = np.divide(values, preprocessing.std, dtype=np.float32)
    if preprocessing.scale != 1.0:
        values = values * np.float32(preprocessing.scale)
    return np.ascontiguousarray(values, np.float32)
