"""The two decoders of JPEG give the same values, and the same files are refused."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from gatecast.errors import ImageError
from gatecast.runtime import decoding
from gatecast.runtime.decoding import decode_pixels

SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (8, 8), (15, 17), (33, 31), (64, 65), (100, 75)]


def photograph(height, width, mode="RGB", seed=0):
    """Smooth colours: noise of a quarter of the size, made larger."""
    small = (max(2, height // 4 + 1), max(2, width // 4 + 1), 3)
    pixels = np.random.default_rng(seed).integers(0, 256, small, np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def jpeg(picture, **options):
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(data, channels="RGB"):
    values = np.asarray(decoding._channels(decoding._open(data), channels))
    return values[..., None] if values.ndim == 2 else values


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("quality", [25, 75, 95, 100])
@pytest.mark.parametrize("progressive", [False, True])
def test_colours_have_pillows_bits(size, quality, progressive):
    for subsampling in (0, 1, 2):
        options = {"quality": quality, "progressive": progressive, "subsampling": subsampling}
        data = jpeg(photograph(*size), **options)
        assert np.array_equal(decode_pixels(data, "RGB"), by_pillow(data))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subsampling", ["440", "411"])
def test_rare_subsamplings_have_pillows_bits(size, subsampling):
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(photograph(*size)), colorsubsampling=subsampling)
    assert simplejpeg.decode_jpeg_header(data)[3] == subsampling
    assert np.array_equal(decode_pixels(data, "RGB"), by_pillow(data))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", ["RGB", "L"])
def test_grey_has_pillows_bits(size, channels):
    data = jpeg(photograph(*size, "L"), quality=80)
    values = decode_pixels(data, channels)
    assert values.shape == (*size, 1 if channels == "L" else 3)
    assert np.array_equal(values, by_pillow(data, channels))


@pytest.mark.parametrize(
    "options", [{"restart_marker_blocks": 3}, {"restart_marker_rows": 1}, {"keep_rgb": True}]
)
def test_other_ways_of_coding_have_pillows_bits(options):
    data = jpeg(photograph(45, 61), subsampling=0, **options)
    assert np.array_equal(decode_pixels(data, "RGB"), by_pillow(data))


def test_simplejpeg_is_what_decodes(monkeypatch):
    monkeypatch.setattr(decoding, "_open", lambda data: pytest.fail("Pillow was asked"))
    for picture in (photograph(20, 30), photograph(20, 30, "L")):
        assert decode_pixels(jpeg(picture), "RGB").shape == (20, 30, 3)


@pytest.mark.parametrize("mode", ["CMYK", "RGB"])
def test_pillow_decodes_inks_and_the_luminance_of_colours(mode):
    channels = "RGB" if mode == "CMYK" else "L"
    data = jpeg(photograph(20, 30, mode))
    assert decoding._decode_jpeg(data, channels) is None
    assert np.array_equal(decode_pixels(data, channels), by_pillow(data, channels))


def test_what_simplejpeg_takes_for_damage_pillow_may_still_decode():
    data, kept = jpeg(photograph(40, 40)), 0
    for position in range(len(data) - 60, len(data) - 4):
        odd = data[:position] + b"\x00" + data[position:]  # a byte that belongs to nothing
        if decoding._decode_jpeg(odd, "RGB") is not None:
            continue
        try:
            expected = by_pillow(odd)
        except ImageError:
            continue
        assert np.array_equal(decode_pixels(odd, "RGB"), expected)
        kept += 1
    assert kept > 5


def test_too_many_pixels_are_refused_before_either_decodes(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 599)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="must have at most 599 pixels, not 30 x 20 = 600"):
        decode_pixels(jpeg(photograph(20, 30)), "RGB")


def test_damaged_files_are_decoded_or_refused():
    data, random, refused = jpeg(photograph(40, 40)), np.random.default_rng(3), 0
    for _ in range(500):
        damaged = bytearray(data)
        for position in random.integers(3, len(data), random.integers(1, 6)):
            damaged[position] = random.integers(256)
        for channels in ("RGB", "L"):
            try:
                assert decode_pixels(bytes(damaged[: random.integers(len(data))]), channels).dtype == np.uint8
            except ImageError:
                refused += 1
    assert refused > 100


def test_photographs_have_pillows_bits():
    folder = os.environ.get("GATECAST_TEST_DATA")
    if folder is None:
        pytest.skip("GATECAST_TEST_DATA is not set: it names the folder with photographs")
    files = sorted(Path(folder).rglob("*.jp*g"))
    assert len(files) > 10
    for file in files:
        data = file.read_bytes()
        assert np.array_equal(decode_pixels(data, "RGB"), by_pillow(data)), file.name
