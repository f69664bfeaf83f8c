"""What convolutions and pools share: strides, dilations and the padding that `auto_pad` means."""

from gatecast.graph import Pads, Pair, Shape

from ..network import NotSupportedError
from ..node import Node


def pair(node: Node, name: str) -> Pair:
    """Return a rows-and-columns attribute, 1 by default."""
    values = node.ints(name) or [1, 1]
    if len(values) != 2:
        raise NotSupportedError(f"{name} must be for rows and columns, not {values}")
    return values[0], values[1]


def window_pads(node: Node, shape: Shape, kernel: Pair, stride: Pair, dilation: Pair) -> Pads:
    """Top, left, bottom, right as `pads` or `auto_pad` says."""
    mode = node.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return _same_pads(shape, kernel, stride, dilation, upper=mode == "SAME_UPPER")
    pads = node.ints("pads") or [0, 0, 0, 0]
    if len(pads) != 4 or min(pads) < 0:
        raise NotSupportedError(f"pads must be four sizes, not {pads}")
    return pads[0], pads[1], pads[2], pads[3]


def _same_pads(shape: Shape, kernel: Pair, stride: Pair, dilation: Pair, *, upper: bool) -> Pads:
    """Padding that makes ``ceil(size / stride)`` windows; an odd one goes to the end if `upper`."""
    low, high = [], []
    for size, k, s, d in zip(shape[:2], kernel, stride, dilation, strict=True):
        total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        small, large = total // 2, total - total // 2
        low.append(small if upper else large)
        high.append(large if upper else small)
    return low[0], low[1], high[0], high[1]
