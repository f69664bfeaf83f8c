"""Image preprocessings by the names that `--preprocess` takes."""

from dataclasses import replace

from gatecast.errors import NotFoundError
from gatecast.graph import Preprocessing

FASHION = Preprocessing(name="fashion", height=28, width=28, channels="L", divide=255.0)

TORCHVISION = Preprocessing(
    name="imagenet-torchvision",
    height=224,
    width=224,
    resize="antialiased_bilinear",
    short_side=256,
    divide=255.0,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

TORCHVISION_V2 = replace(TORCHVISION, name="imagenet-torchvision-v2", short_side=232)

AZUREML = Preprocessing(
    name="imagenet-azureml",
    height=224,
    width=224,
    resize="legacy_bilinear",
    short_side=256,
    mean=(123.68, 116.779, 103.939),
)

PREPROCESSINGS = {rule.name: rule for rule in (FASHION, TORCHVISION, TORCHVISION_V2, AZUREML)}


def preprocessing(name: str) -> Preprocessing:
    """Return the preprocessing called `name`.

    Raises
    ------
    NotFoundError
        There is none; those that exist are listed.
    """
    if name not in PREPROCESSINGS:
        raise NotFoundError(f"Preprocessing must be one of {', '.join(PREPROCESSINGS)}, not {name!r}")
    return PREPROCESSINGS[name]


def azureml_preprocessing(
    order: str = "RGB",
    scaling_factor: float = 1.0,
    output_height: int = 224,
    output_width: int = 224,
    preserve_aspect_ratio: bool = True,
) -> Preprocessing:
    """Return what `preprocess_array` of azureml-accel-models does with the same arguments.

    With `preserve_aspect_ratio` the crop has ``min(output_height, 256)`` rows and, as there, as many columns:
    `output_width` does not count. Without, the whole picture is resized.

    Raises
    ------
    NotFoundError
        `order` is neither ``RGB`` nor ``BGR``.
    """
    if order not in ("RGB", "BGR"):
        raise NotFoundError(f"Order of the channels must be RGB or BGR, not {order!r}")
    side = min(output_height, 256)
    height, width = (side, side) if preserve_aspect_ratio else (output_height, output_width)
    return replace(
        AZUREML,
        height=height,
        width=width,
        channels=order,
        short_side=256 if preserve_aspect_ratio else None,
        mean=AZUREML.mean if order == "RGB" else AZUREML.mean[::-1],
        scale=scaling_factor,
    )
