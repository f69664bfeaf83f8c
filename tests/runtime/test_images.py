"""Image stages: what is decoded, how it is resized, and which bytes are refused."""

import hashlib
import io
import struct
import subprocess
import sys
import textwrap
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gatecast.errors import ImageError
from gatecast.graph import Preprocessing
from gatecast.runtime import decoding
from gatecast.runtime.images import decode_image

RANDOM = np.random.default_rng(20240)
PLAIN = Preprocessing(name="plain", height=6, width=8)
LEGACY = Preprocessing(name="legacy", height=24, width=24, resize="legacy_bilinear", short_side=32)
ANTIALIASED = replace(LEGACY, name="antialiased", resize="antialiased_bilinear")


def picture(height=6, width=8, channels=3, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(
        0, np.iinfo(dtype).max + 1, (height, width, channels), dtype
    )
    return values[..., 0] if channels == 1 else values


def encoded(pixels, kind="PNG", mode=None, **options):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def raw_png(rows, depth, colour, *, extra=b"", interlace=0):
    """Write a PNG of any bit depth and colour type; `rows` is the unfiltered scanlines."""
    height, line = rows.shape
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    width = line * 8 // (depth * samples)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    scanlines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(scanlines))
        + chunk(b"IEND", b"")
    )


class TestDecoding:
    def test_a_png_keeps_its_values_as_float32(self):
        pixels = picture()
        values = decode_image(encoded(pixels), PLAIN)
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        assert np.array_equal(values, pixels)

    def test_grey_becomes_three_equal_channels(self):
        pixels = picture(channels=1)
        assert np.array_equal(decode_image(encoded(pixels), PLAIN), pixels[..., None].repeat(3, axis=2))

    def test_alpha_is_dropped_and_not_blended(self):
        pixels = picture(channels=4)
        assert np.array_equal(decode_image(encoded(pixels), PLAIN), pixels[..., :3])

    def test_grey_with_alpha_keeps_the_grey(self):
        pixels = picture(channels=2)
        expected = pixels[..., :1].repeat(3, axis=2)
        assert np.array_equal(decode_image(encoded(Image.fromarray(pixels, "LA")), PLAIN), expected)

    @pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
    def test_sixteen_bits_keep_their_upper_byte(self, colour, channels):
        pixels = picture(channels=max(channels, 2), dtype=np.uint16)[..., :channels]
        data = raw_png(pixels.astype(">u2").reshape(6, -1).view(np.uint8), 16, colour)
        upper = (pixels >> 8)[..., : 1 if channels < 3 else 3]
        assert np.array_equal(decode_image(data, PLAIN), np.broadcast_to(upper, (6, 8, 3)))

    def test_one_bit_becomes_black_and_white(self):
        rows = RANDOM.integers(0, 256, (6, 1), np.uint8)
        expected = np.unpackbits(rows, axis=1)[..., None] * 255
        assert np.array_equal(decode_image(raw_png(rows, 1, 0), PLAIN), expected.repeat(3, axis=2))

    @pytest.mark.parametrize("transparency", [None, 3, bytes(range(64))])
    def test_a_palette_becomes_its_colours_whatever_is_transparent(self, transparency):
        palette = RANDOM.integers(0, 256, (64, 3), np.uint8)
        indices = RANDOM.integers(0, 64, (6, 8), np.uint8)
        image = Image.fromarray(indices, "L")
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette(palette.tobytes())
        options = {} if transparency is None else {"transparency": transparency}
        assert np.array_equal(decode_image(encoded(image, **options), PLAIN), palette[indices])

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_a_transparent_colour_stays_that_colour(self, mode):
        pixels = picture(channels=1 if mode == "L" else 3)
        transparency = int(pixels[0, 0]) if mode == "L" else tuple(int(v) for v in pixels[0, 0])
        values = decode_image(encoded(pixels, transparency=transparency), PLAIN)
        assert np.array_equal(values, pixels if mode == "RGB" else pixels[..., None].repeat(3, axis=2))

    def test_a_jpeg_has_the_bits_of_the_accurate_dct(self):
        pixels = np.asarray(Image.fromarray(picture(12, 16, seed=3)).resize((8, 6)))
        data = encoded(pixels, "JPEG", quality=90)
        expected = np.asarray(Image.open(io.BytesIO(data)))
        assert np.array_equal(decode_image(data, PLAIN), expected)

    def test_cmyk_inks_are_multiplied_by_black(self):
        cmyk = np.full((6, 8, 4), (10, 100, 250, 30), np.uint8)
        data = encoded(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=100)
        inks = 255 - np.asarray(Image.open(io.BytesIO(data))).astype(int)
        assert np.array_equal(decode_image(data, PLAIN), inks[..., :3] * inks[..., 3:] // 255)

    def test_the_orientation_of_exif_is_ignored(self):
        pixels, exif = picture(), Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees
        assert np.array_equal(decode_image(encoded(pixels, exif=exif), PLAIN), pixels)

    def test_only_the_first_frame_counts(self):
        frames = [Image.fromarray(picture(seed=seed)) for seed in (1, 2)]
        data = encoded(frames[0], save_all=True, append_images=frames[1:])
        assert np.array_equal(decode_image(data, PLAIN), np.asarray(frames[0]))

    def test_luminance_of_a_grey_picture_is_itself(self):
        pixels = picture(channels=1)
        values = decode_image(encoded(pixels), replace(PLAIN, channels="L"))
        assert np.array_equal(values, pixels[..., None])

    def test_luminance_of_colours_weighs_them(self):
        pixels = np.full((6, 8, 3), (255, 0, 0), np.uint8)
        assert (decode_image(encoded(pixels), replace(PLAIN, channels="L")) == 76).all()

    def test_other_buffers_of_bytes_are_taken(self):
        data = encoded(picture())
        for kind in (bytearray, memoryview):
            assert np.array_equal(decode_image(kind(data), PLAIN), picture())


class TestArithmetic:
    def test_the_steps_are_divide_mean_std_scale_in_float32(self):
        rule = replace(
            PLAIN, divide=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=0.017
        )
        pixels = picture()
        x = pixels.astype(np.float32) / np.float32(255)
        x = x - np.array(rule.mean, np.float32)
        x = x / np.array(rule.std, np.float32)
        assert np.array_equal(decode_image(encoded(pixels), rule), x * np.float32(0.017))

    def test_bgr_turns_the_channels_round_before_the_means(self):
        rule = replace(PLAIN, channels="BGR", mean=(1.0, 2.0, 3.0))
        pixels = picture()
        expected = pixels[..., ::-1].astype(np.float32) - np.array([1, 2, 3], np.float32)
        assert np.array_equal(decode_image(encoded(pixels), rule), expected)

    def test_one_number_serves_all_channels(self):
        pixels = picture()
        values = decode_image(encoded(pixels), replace(PLAIN, mean=(7.0,), std=(2.0,)))
        assert np.array_equal(values, (pixels.astype(np.float32) - 7) / 2)


def legacy_by_definition(pixels, height, width):
    """One value at a time, in TensorFlow's order; each operation is one float32 operation."""
    f = np.float32
    result = np.empty((height, width, pixels.shape[2]), f)
    for y, x, c in np.ndindex(result.shape):
        row, column = f(y) * (f(pixels.shape[0]) / f(height)), f(x) * (f(pixels.shape[1]) / f(width))
        top, left = int(np.floor(row)), int(np.floor(column))
        bottom = min(int(np.ceil(row)), pixels.shape[0] - 1)
        right = min(int(np.ceil(column)), pixels.shape[1] - 1)
        down, along = row - np.floor(row), column - np.floor(column)
        p = pixels[..., c].astype(f)
        upper = p[top, left] + (p[top, right] - p[top, left]) * along
        lower = p[bottom, left] + (p[bottom, right] - p[bottom, left]) * along
        result[y, x, c] = upper + (lower - upper) * down
    return result


class TestLegacyBilinear:
    @pytest.mark.parametrize("size", [(10, 7), (31, 50), (6, 8), (1, 1), (3, 90)])
    def test_the_whole_picture_is_resized_as_defined(self, size):
        pixels = picture(*size, seed=5)
        values = decode_image(encoded(pixels), replace(LEGACY, short_side=None))
        assert np.array_equal(values, legacy_by_definition(pixels, 24, 24))

    @pytest.mark.parametrize("size", [(40, 60), (61, 35), (33, 33), (20, 23)])
    def test_the_crop_is_the_centre_of_the_resized_picture(self, size):
        pixels = picture(*size, seed=6)
        scale = np.float32(32) / np.float32(min(size))
        height, width = (int(np.float32(side) * scale) for side in size)
        top, left = (height - 24) // 2, (width - 24) // 2
        expected = legacy_by_definition(pixels, height, width)[top : top + 24, left : left + 24]
        assert np.array_equal(decode_image(encoded(pixels), LEGACY), expected)

    def test_a_small_case_has_tensorflows_values(self):
        pixels = np.array([[0, 10, 255], [7, 100, 3]], np.uint8)
        rule = replace(LEGACY, height=3, width=2, short_side=None, channels="L")
        expected = [[0x00000000, 0x43048000], [0x40955556, 0x429D0000], [0x40E00000, 0x424E0000]]
        result = decode_image(encoded(pixels), rule)[..., 0]
        assert result.view(np.uint32).tolist() == expected

    def test_the_values_of_larger_cases_are_those_once_compared_with_tensorflow(self):
        digest = hashlib.sha256()
        for size in [(480, 640), (300, 400), (256, 999), (61, 35)]:
            digest.update(decode_image(encoded(picture(*size, seed=9)), LEGACY).tobytes())
        assert digest.hexdigest() == "04b3d52035605ae3db735b0a9431be747594e8ae428fa3da16e0556c6acbb691"

    def test_a_scale_that_rounds_down_can_make_the_picture_too_small_for_its_crop(self):
        side = next(
            s for s in range(2, 5000) if int(np.float32(s) * (np.float32(256) / np.float32(s))) == 255
        )
        rule = replace(LEGACY, height=256, width=256, short_side=256)
        with pytest.raises(
            ImageError, match="must be at least 256 x 256 pixels after resizing, not 255 x 255"
        ):
            decode_image(encoded(picture(side, side)), rule)


class TestAntialiasedBilinear:
    @pytest.mark.parametrize("size", [(40, 61), (61, 35), (33, 33), (20, 23)])
    def test_sizes_and_crop_are_torchvisions(self, size):
        pixels = picture(*size, seed=7)
        long = int(32 * max(size) / min(size))
        height, width = (32, long) if size[0] <= size[1] else (long, 32)
        resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
        top, left = round((height - 24) / 2.0), round((width - 24) / 2.0)
        expected = resized[top : top + 24, left : left + 24]
        assert np.array_equal(decode_image(encoded(pixels), ANTIALIASED), expected)

    def test_the_crop_starts_at_the_even_one_of_two_halves(self):
        """Room of 5 and 3 columns: torchvision's round(2.5) is 2 and round(1.5) is 2."""
        for width, left in ((29, 2), (27, 2)):
            pixels = picture(24, width, seed=8)
            values = decode_image(encoded(pixels), replace(ANTIALIASED, short_side=24))
            assert np.array_equal(values, pixels[:, left : left + 24])

    def test_without_a_short_side_the_whole_picture_is_resized(self):
        pixels = picture(40, 61)
        expected = np.asarray(Image.fromarray(pixels).resize((24, 24), Image.Resampling.BILINEAR))
        assert np.array_equal(decode_image(encoded(pixels), replace(ANTIALIASED, short_side=None)), expected)


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"", "Picture must be a JPEG or PNG file, not nothing"),
            (b"hello", "Picture must be a JPEG or PNG file, not one that starts with 68 65 6c 6c"),
            (
                b"GIF89a" + bytes(40),
                "Picture must be a JPEG or PNG file, not one that starts with 47 49 46 38",
            ),
        ],
    )
    def test_other_bytes_are_named(self, data, text):
        with pytest.raises(ImageError) as caught:
            decode_image(data, PLAIN)
        assert str(caught.value) == text
        assert caught.value.hint == "Send the bytes of a whole JPEG or PNG file."

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_a_truncated_picture_is_refused_wherever_it_ends(self, kind):
        data = encoded(picture(40, 40), kind)
        for end in [*range(3, 200, 7), len(data) // 2, len(data) - 40]:
            with pytest.raises(ImageError, match="Picture"):
                decode_image(data[:end], replace(PLAIN, height=40, width=40))

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_damaged_bytes_never_raise_anything_else(self, kind):
        data = encoded(picture(16, 16), kind)
        random = np.random.default_rng(11)
        rule = replace(LEGACY, height=8, width=8, short_side=8)
        refused = 0
        for _ in range(400):
            damaged = bytearray(data)
            for position in random.integers(2, len(data), random.integers(1, 5)):
                damaged[position] = random.integers(256)
            try:
                assert decode_image(bytes(damaged), rule).shape == (8, 8, 3)
            except ImageError:
                refused += 1
        assert refused > 20

    def test_the_message_says_what_the_decoder_said(self):
        data = encoded(picture(40, 40))
        with pytest.raises(ImageError) as caught:
            decode_image(data[:1000], PLAIN)
        assert str(caught.value).startswith("Picture of 1000 bytes must be a whole PNG: ")

    def test_another_size_is_refused_where_nothing_resizes(self):
        with pytest.raises(ImageError) as caught:
            decode_image(encoded(picture(7, 9)), PLAIN)
        assert str(caught.value) == "Picture for preprocessing 'plain' must be 8 x 6 pixels, not 9 x 7"
        assert caught.value.hint == "Resize the picture, or choose a preprocessing that resizes."

    def test_too_many_pixels_are_refused_before_they_are_decoded(self):
        bomb = raw_png(np.zeros((1, 1), np.uint8), 1, 0).replace(
            struct.pack(">II", 8, 1), struct.pack(">II", 60000, 60000)
        )
        header = bomb[12:29]
        bomb = bomb[:29] + struct.pack(">I", zlib.crc32(header)) + bomb[33:]
        with pytest.raises(ImageError) as caught:
            decode_image(bomb, PLAIN)
        assert str(caught.value) == (
            "Picture must have at most 67108864 pixels, not 60000 x 60000 = 3600000000"
        )

    def test_a_long_thin_picture_may_not_grow_beyond_the_limit(self):
        data = encoded(np.zeros((1, 60000, 3), np.uint8))
        for rule in (LEGACY, ANTIALIASED):
            wide = replace(rule, short_side=2000)
            with pytest.raises(
                ImageError, match="at most 67108864 pixels after resizing, not 120000000 x 2000"
            ):
                decode_image(data, wide)

    def test_too_many_bytes_are_refused(self, monkeypatch):
        monkeypatch.setattr(decoding, "MAX_BYTES", 100)
        with pytest.raises(ImageError, match="Picture must have at most 100 bytes, not 101"):
            decode_image(bytes(101), PLAIN)


TENSORFLOW = """
    import sys, numpy as np, tensorflow as tf
    v1 = tf.compat.v1
    data = np.load(sys.argv[1])
    out = {}
    for name in data.files:
        with tf.Graph().as_default(), v1.Session() as session:
            text = tf.constant(data[name].tobytes())
            if name.startswith("jpeg"):
                image = tf.io.decode_jpeg(text, channels=3, dct_method="INTEGER_ACCURATE")
            else:
                image = tf.io.decode_png(text, channels=3)
            image = tf.cast(image, tf.float32)
            size = tf.shape(image)
            height, width = tf.cast(size[0], tf.float32), tf.cast(size[1], tf.float32)
            scale = tf.cond(tf.greater(height, width), lambda: 32 / width, lambda: 32 / height)
            target = [tf.cast(height * scale, tf.int32), tf.cast(width * scale, tf.int32)]
            whole = v1.image.resize_bilinear(image[None], [24, 24], align_corners=False)[0]
            image = v1.image.resize_bilinear(image[None], target, align_corners=False)[0]
            top, left = (target[0] - 24) // 2, (target[1] - 24) // 2
            crop = tf.slice(image, tf.stack([top, left, 0]), [24, 24, 3]) - [123.68, 116.779, 103.939]
            out[name], out[name + "_whole"] = session.run([crop * 0.017, whole])
    np.savez(sys.argv[2], **out)
"""


@pytest.mark.slow
def test_tensorflow_computes_the_same_bits(tmp_path):
    sizes = [(480, 640), (300, 400), (256, 999), (61, 35), (33, 33), (20, 23)]
    files = {f"png_{h}_{w}": encoded(picture(h, w, seed=9)) for h, w in sizes}
    files["png_rgba"] = encoded(picture(50, 40, channels=4))
    files["png_grey"] = encoded(picture(50, 40, channels=1))
    files["png_grey_alpha"] = encoded(Image.fromarray(picture(50, 40, channels=2), "LA"))
    files["png_16"] = raw_png(
        picture(50, 120, channels=1, dtype=np.uint16).astype(">u2").view(np.uint8), 16, 2
    )
    files["png_grey_16"] = raw_png(
        picture(50, 40, channels=1, dtype=np.uint16).astype(">u2").view(np.uint8), 16, 0
    )
    smooth = Image.fromarray(picture(9, 7, seed=2)).resize((90, 71), Image.Resampling.BICUBIC)
    files["jpeg_420"] = encoded(smooth, "JPEG", quality=75)
    files["jpeg_444"] = encoded(smooth, "JPEG", quality=95, subsampling=0)
    files["jpeg_grey"] = encoded(smooth, "JPEG", mode="L")
    files["jpeg_progressive"] = encoded(smooth, "JPEG", progressive=True)
    files["jpeg_cmyk"] = encoded(smooth, "JPEG", mode="CMYK")
    np.savez(tmp_path / "in.npz", **{name: np.frombuffer(data, np.uint8) for name, data in files.items()})
    program = textwrap.dedent(TENSORFLOW)
    command = [sys.executable, "-c", program, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with np.load(tmp_path / "out.npz") as theirs:
        for name, data in files.items():
            rule = replace(LEGACY, mean=(123.68, 116.779, 103.939), scale=0.017)
            assert np.array_equal(decode_image(data, rule), theirs[name]), name
            whole = replace(LEGACY, short_side=None)
            assert np.array_equal(decode_image(data, whole), theirs[name + "_whole"]), name
