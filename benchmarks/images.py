"""A picture becomes a tensor: the image stage against Pillow and NumPy, in one thread.

    python benchmarks/images.py [--picture FILE] [--rounds 200] [--json]

Each preprocessing of 224 x 224 pixels, on a 500 x 375 JPEG (a synthetic one unless told otherwise). The two
take turns; what is printed are medians and best times in milliseconds, the median of the rounds' ratios and
its quartiles, and what the decoder takes of ours. Pillow's way is what one would write with it: open, resize,
crop, arithmetic in NumPy. For the legacy resize, which Pillow has not, it is the same arithmetic in NumPy.
"""

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from gatecast.runtime import decode_image, resizing
from gatecast.runtime.decoding import decode_pixels
from gatecast.runtime.images import tensorflow_crop
from gatecast.zoo import preprocessing

RULES = ("imagenet-torchvision", "imagenet-azureml")


def synthetic() -> bytes:
    """Return a JPEG of smooth shapes with some grain: about 60 KB."""
    random = np.random.default_rng(0)
    shapes = Image.fromarray(random.integers(0, 256, (16, 21, 3), np.uint8))
    smooth = np.asarray(shapes.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.float32)
    pixels = np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def by_pillow(data: bytes, rule) -> np.ndarray:
    """Return the tensor as Pillow and NumPy make it."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    if rule.resize == "legacy_bilinear":
        pixels = np.asarray(picture)
        return resizing.legacy(pixels, tensorflow_crop(*pixels.shape[:2], rule), rule)
    short, (width, height) = rule.short_side, picture.size
    size = (short * width // height, short) if width > height else (short, short * height // width)
    resized = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - rule.width) / 2), round((size[1] - rule.height) / 2)
    pixels = np.asarray(resized.crop((left, top, left + rule.width, top + rule.height)), np.float32)
    return (pixels / np.float32(rule.divide) - np.float32(rule.mean)) / np.float32(rule.std)


def seconds(call) -> float:
    """Return what a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(data: bytes, rule, rounds: int) -> dict:
    """Take turns; milliseconds and ratios."""
    calls = (
        lambda: decode_image(data, rule),
        lambda: by_pillow(data, rule),
        lambda: decode_pixels(data, rule.channels),
    )
    rows = np.array([[seconds(call) for call in calls] for _ in range(rounds + 3)][3:])
    ours, theirs, decoder = (np.median(rows, axis=0) * 1e3).tolist()
    low, middle, high = np.percentile(rows[:, 0] / rows[:, 1], [25, 50, 75]).tolist()
    return {
        "preprocessing": rule.name,
        "gatecast_ms": round(ours, 3),
        "decoder_ms": round(decoder, 3),
        "pillow_ms": round(theirs, 3),
        "best_ms": [round(best, 3) for best in (rows.min(axis=0) * 1e3).tolist()[:2]],
        "ratio": round(middle, 3),
        "spread": [round(low, 3), round(high, 3)],
        "largest_difference": float(np.abs(calls[0]() - calls[1]()).max()),
    }


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    data = given.picture.read_bytes() if given.picture else synthetic()
    width, height = Image.open(io.BytesIO(data)).size
    found = [compare(data, preprocessing(name), given.rounds) for name in RULES]
    if given.json:
        print(json.dumps({"picture": [width, height], "bytes": len(data), "preprocessings": found}))
        return
    print(f"{width} x {height} pixels, {len(data)} bytes")
    for result in found:
        print("\n".join(f"{key:20} {value}" for key, value in result.items()), end="\n\n")


if __name__ == "__main__":
    main()
