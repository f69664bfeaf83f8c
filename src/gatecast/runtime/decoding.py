"""Encoded pictures to 8-bit values.

JPEG has the bits of libjpeg's accurate integer DCT, whoever decodes it: simplejpeg, in half of Pillow's time,
or Pillow where simplejpeg cannot. Pictures are untrusted: sizes are looked at before anything is decoded.
"""

import struct
import zlib
from io import BytesIO

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, JpegImagePlugin, PngImagePlugin

from gatecast.errors import ImageError

UInt8 = npt.NDArray[np.uint8]

MAX_BYTES = 64 * 2**20
"""Of one encoded picture."""

MAX_PIXELS = 2**26
"""Of one picture, read from its header before anything is decoded."""

_JPEG = b"\xff\xd8\xff"
_READERS = (
    (_JPEG, "JPEG", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImagePlugin.PngImageFile),
)
# What Pillow raises for damaged files. MemoryError is not among them: it is not the picture's fault.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError)
_DECODING_ERRORS = (*_DAMAGE, struct.error, zlib.error)


def decode_pixels(data: bytes, channels: str) -> UInt8:
    """Return the values of an encoded picture, ``[rows, columns, 3]`` in RGB, or 1 channel for ``L``.

    The first frame of a JPEG or PNG. Grey becomes three equal channels, alpha is dropped, 16-bit values keep
    their upper byte, and the orientation that EXIF asks for is ignored, all as TensorFlow's decode_png does.

    Raises
    ------
    ImageError
        The bytes are no whole JPEG or PNG, are more than `MAX_BYTES`, or stand for more than `MAX_PIXELS`.
    """
    if len(data) > MAX_BYTES:
        raise ImageError(f"Picture must have at most {MAX_BYTES} bytes, not {len(data)}")
    if data[: len(_JPEG)] == _JPEG and (pixels := _decode_jpeg(data, channels)) is not None:
        return pixels
    values = np.asarray(_channels(_open(data), channels))
    return values[..., None] if values.ndim == 2 else values


def check_size(width: int, height: int) -> None:
    """Refuse a picture of too many pixels."""
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"Picture must have at most {MAX_PIXELS} pixels, not {width} x {height} = {width * height}",
            hint="Send a smaller picture; networks of this kind read a few hundred pixels a side.",
        )


def _decode_jpeg(data: bytes, channels: str) -> UInt8 | None:
    """Values by simplejpeg; None if it cannot, finds damage, or would find another luminance than Pillow."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    check_size(width, height)
    if space == "Gray" and channels == "L":
        wanted = "GRAY"
    elif space in ("Gray", "YCbCr", "RGB") and channels != "L":
        wanted = "RGB"
    else:
        return None
    try:
        pixels: UInt8 = simplejpeg.decode_jpeg(data, wanted)
    except ValueError:
        return None
    return pixels


def _open(data: bytes) -> Image.Image:
    """Return the decoded picture, in whatever mode the file has."""
    kind, reader = _reader(data)
    try:
        picture = reader(BytesIO(data))
        check_size(*picture.size)
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
