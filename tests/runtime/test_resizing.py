"""The extension resizes to the bits of the definition in NumPy and Pillow, with and without AVX2."""

import numpy as np
import pytest
from PIL import Image

from gatecast import _native
from gatecast.graph import Preprocessing
from gatecast.runtime import native, resizing
from gatecast.runtime.resizing import Crop

ARITHMETIC = [
    {},
    {"channels": "BGR"},
    {"divide": 255.0, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    {"mean": (123.68, 116.779, 103.939), "scale": 0.017, "channels": "BGR"},
    {"divide": 3.0, "mean": (7.0,), "std": (0.3,), "scale": -1.5},
]


def rule(**arithmetic):
    return Preprocessing(name="any", height=1, width=1, **arithmetic)


def random_case(random, channels):
    """Pixels and a crop; small and large, up and down, with every value or only the ends."""
    largest = random.choice([4, 30, 200])
    rows, columns, height, width = (int(n) for n in random.integers(1, largest + 1, 4))
    values = np.arange(256) if random.random() < 0.5 else np.array([0, 255])
    pixels = random.choice(values, (rows, columns, channels)).astype(np.uint8)
    top, left = int(random.integers(height)), int(random.integers(width))
    kept = int(random.integers(1, height - top + 1)), int(random.integers(1, width - left + 1))
    return pixels, Crop(height, width, top, left, *kept)


@pytest.fixture(params=["as it is", "portable"])
def kernels(request, monkeypatch):
    """Once the kernels of this processor, once those of any."""
    if request.param == "portable":
        for name in ("resize_legacy", "resize_antialiased"):
            made = getattr(_native, name)
            monkeypatch.setattr(_native, name, lambda *given, made=made: made(*given, portable=True))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", ["legacy", "antialiased"])
@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_colours_have_the_bits_of_the_definition(name, arithmetic):
    random = np.random.default_rng(len(arithmetic))
    for _ in range(60):
        pixels, crop = random_case(random, 3)
        expected = getattr(resizing, name)(pixels, crop, rule(**arithmetic))
        found = getattr(native, name)(pixels, crop, rule(**arithmetic))
        assert found.dtype == np.float32 and found.flags.c_contiguous
        assert found.shape == expected.shape and found.tobytes() == expected.tobytes(), (pixels.shape, crop)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", ["legacy", "antialiased"])
def test_grey_has_the_bits_of_the_definition(name):
    random = np.random.default_rng(8)
    grey = rule(channels="L", divide=255.0, mean=(0.5,))
    for _ in range(60):
        pixels, crop = random_case(random, 1)
        expected = getattr(resizing, name)(pixels, crop, grey)
        assert getattr(native, name)(pixels, crop, grey).tobytes() == expected.tobytes(), (pixels.shape, crop)


@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_arithmetic_alone_has_the_bits_of_the_definition(arithmetic):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    expected = resizing.normalise(pixels, rule(**arithmetic))
    assert native.normalise(pixels, rule(**arithmetic)).tobytes() == expected.tobytes()


@pytest.mark.usefixtures("kernels")
def test_a_photograph_is_that_of_pillows_two_passes():
    small = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    photograph = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
    narrow = photograph.resize((341, 375), Image.Resampling.BILINEAR)
    expected = np.asarray(narrow.resize((341, 256), Image.Resampling.BILINEAR))[16:240, 58:282]
    found = native.antialiased(np.asarray(photograph), Crop(256, 341, 16, 58, 224, 224), rule())
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["legacy", "antialiased"])
def test_a_part_of_a_picture_need_not_be_contiguous(name):
    pixels = np.random.default_rng(2).integers(0, 256, (30, 40, 3), np.uint8)[::2, ::-1]
    crop = Crop(20, 20, 1, 2, 10, 11)
    expected = getattr(resizing, name)(pixels, crop, rule())
    assert np.array_equal(getattr(native, name)(pixels, crop, rule()), expected)


@pytest.mark.parametrize("name", ["legacy", "antialiased"])
@pytest.mark.parametrize("crop", [Crop(8, 8, 1, 0, 8, 8), Crop(8, 8, 0, -1, 8, 8), Crop(8, 8, 0, 0, 0, 8)])
def test_a_crop_outside_the_picture_is_refused(name, crop):
    with pytest.raises(ValueError, match="must lie in the resized picture"):
        getattr(native, name)(np.zeros((4, 4, 3), np.uint8), crop, rule())


@pytest.mark.parametrize("shape", [(4, 4, 2), (0, 4, 3)])
def test_pictures_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="pictures have"):
        native.antialiased(np.zeros(shape, np.uint8), Crop(4, 4, 0, 0, 4, 4), rule())
