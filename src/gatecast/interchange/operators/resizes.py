"""Resizing of maps: nearest by whole factors, and linear."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from gatecast.graph import Resize

from ..network import Network, NotSupportedError
from ..node import Node, operator
from ..values import Value

Coordinates = Literal["half_pixel", "asymmetric", "align_corners"]


@operator("Resize", "Upsample")
def resize(node: Node, network: Network) -> Value:
    """Rows and columns of a map, to a whole number of pixels."""
    source = network.map(node.input(0))
    rows, columns, channels = network.shapes[source.value]
    have = (network.batch, channels, rows, columns)
    scales, size = _scales_and_size(node, have)
    if size[:2] != have[:2]:
        raise NotSupportedError("resizes the batch or the channels")
    if node.attribute("antialias", 0) and min(scales[2:]) < 1:
        raise NotSupportedError("antialias must be 0")
    mode = node.attribute("mode", "nearest")
    coordinates = _coordinate_mode(node)
    target = (size[2], size[3])
    if mode == "nearest":
        rounding = node.attribute("nearest_mode", "round_prefer_floor" if node.opset >= 11 else "floor")
        for n, m, scale in zip(have[2:], target, scales[2:], strict=True):
            if not _repeats(n, m, scale, coordinates, rounding):
                raise NotSupportedError("takes the nearest pixel in another way than by whole factors")
        layer = Resize(name=network.unique(node.name), inputs=(source.value,), size=target)
        return network.add(layer)
    if mode not in ("linear", "bilinear"):
        raise NotSupportedError(f"mode must be nearest or linear, not {mode}")
    for n, m, scale in zip(have[2:], target, scales[2:], strict=True):
        if abs(scale * n - m) > 1e-4:
            raise NotSupportedError("its scale does not make a whole number of pixels")
    layer = Resize(
        name=network.unique(node.name),
        inputs=(source.value,),
        size=target,
        mode="bilinear",
        coordinates=_linear_coordinates(coordinates, target),
    )
    return network.add(layer)


def _coordinate_mode(node: Node) -> str:
    if node.proto.op_type == "Upsample" or node.opset < 11:
        return "asymmetric"
    return str(node.attribute("coordinate_transformation_mode", "half_pixel"))


def _linear_coordinates(mode: str, size: Sequence[int]) -> Coordinates:
    if mode == "pytorch_half_pixel" and min(size) > 1:
        return "half_pixel"
    known: dict[str, Coordinates] = {name: name for name in get_args(Coordinates)}
    if mode in known:
        return known[mode]
    raise NotSupportedError(f"coordinates must be half_pixel, asymmetric or align_corners, not {mode}")


def _scales_and_size(node: Node, have: Sequence[int]) -> tuple[list[float], tuple[int, ...]]:
    """Factor and resulting size of each axis, whichever is given."""
    places = (2, 3) if node.proto.op_type == "Resize" and node.opset >= 11 else (1, None)
    axes = [axis % len(have) for axis in node.ints("axes") or range(len(have))]
    sizes = None if places[1] is None else node.ints("", places[1])
    if sizes:
        if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise NotSupportedError("keep_aspect_ratio_policy must be stretch")
        size = list(have)
        for axis, n in zip(axes, sizes, strict=True):
            size[axis] = n
        return [m / n for m, n in zip(size, have, strict=True)], tuple(size)
    scales = [1.0] * len(have)
    for axis, scale in zip(axes, _given_scales(node, places[0]), strict=True):
        scales[axis] = scale
    return scales, tuple(int(np.floor(n * s)) for n, s in zip(have, scales, strict=True))


def _given_scales(node: Node, place: int) -> list[float]:
    if node.has("scales"):
        return [float(scale) for scale in node.attribute("scales")]
    return [float(scale) for scale in np.ravel(node.weights(place))]


_SOURCES: dict[str, Callable[[np.ndarray, int, int, float], np.ndarray]] = {
    "half_pixel": lambda i, n, m, s: (i + 0.5) / s - 0.5,
    "pytorch_half_pixel": lambda i, n, m, s: (i + 0.5) / s - 0.5 if m > 1 else i * 0.0,
    "asymmetric": lambda i, n, m, s: i / s,
    "align_corners": lambda i, n, m, s: i * (n - 1) / max(m - 1, 1),
    "tf_half_pixel_for_nn": lambda i, n, m, s: (i + 0.5) / s,
}

_ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}


def _repeats(have: int, size: int, scale: float, coordinates: str, rounding: str) -> bool:
    """Whether the nearest pixels are each pixel repeated a whole number of times."""
    if size % have or coordinates not in _SOURCES or rounding not in _ROUNDINGS:
        return False
    index = np.arange(size)
    nearest = _ROUNDINGS[rounding](_SOURCES[coordinates](index, have, size, scale)).clip(0, have - 1)
    return bool((nearest == index // (size // have)).all())
