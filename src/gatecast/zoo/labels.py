"""Class names, in the order of the scores."""

from functools import cache
from pathlib import Path

FASHION_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Return the 1000 class names of ImageNet (ILSVRC 2012); each lists its synonyms after commas."""
    text = (Path(__file__).parent / "data" / "imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
