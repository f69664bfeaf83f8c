"""What `gatecast bench --layers` tells: a table, JSON, and a plot of achieved against attainable speed."""

from typing import Any

from gatecast.runtime import LayerTime, Profile, Roof

from .drawing import Drawing, Line, Rectangle, Shape, Text
from .terminal import count, print_table

_ROW, _TOP, _LEFT, _BARS, _RIGHT = 16, 54, 210, 560, 150
_ACHIEVED, _ATTAINABLE, _GRID = "#2f6fb0", "#dce6f1", "#bbbbbb"


def to_json(profile: Profile) -> dict[str, Any]:
    """Return the profile as plain data."""
    roof = profile.roof
    limits = None if roof is None else dict(vars(roof))
    return {"attainable": limits, "layers": [_record(layer, roof) for layer in profile.layers]}


def _record(layer: LayerTime, roof: Roof | None) -> dict[str, Any]:
    return {
        **vars(layer),
        "gmacs_per_s": layer.gmacs_per_s,
        "attainable_gmacs_per_s": layer.attainable(roof) if roof else None,
        "share": layer.share(roof) if roof else None,
    }


def print_layer_times(profile: Profile) -> None:
    """Print a table of the layers and of their sum."""
    rows = [_cells(layer, profile.roof) for layer in profile.layers]
    columns = ("layer", "kind", ">MACs", ">µs", ">GMAC/s", ">attainable", ">share")
    print_table(columns, [*rows, _cells(total(profile), profile.roof)])


def total(profile: Profile) -> LayerTime:
    """All layers as one."""
    layers = profile.layers
    macs, touched = sum(layer.macs for layer in layers), sum(layer.touched for layer in layers)
    return LayerTime("total", "", macs, touched, sum(layer.us for layer in layers))


def _cells(layer: LayerTime, roof: Roof | None) -> tuple[str, ...]:
    attainable, share = (layer.attainable(roof), layer.share(roof)) if roof else (None, None)
    return (
        layer.name,
        layer.kind,
        count(layer.macs) if layer.macs else "",
        f"{layer.us:,.1f}",
        f"{layer.gmacs_per_s:.1f}" if layer.macs else "",
        f"{attainable:.1f}" if attainable else "",
        "" if share is None else f"{share:.0%}",
    )


def describe(roof: Roof | None) -> str:
    """Say what the shares are of."""
    if roof is None or roof.gmacs_per_s is None:
        return "what is attainable here is not known"
    threads = "thread" if roof.threads == 1 else "threads"
    return (
        f"attainable with {roof.instruction_set} and {roof.threads} {threads}, measured just now: "
        f"{roof.gmacs_per_s:.0f} GMAC/s, or what reading at {roof.gbytes_per_s:.1f} GB/s allows"
    )


def plot(profile: Profile, title: str) -> Drawing:
    """Draw a bar of what each layer with multiplications achieves, in front of what is attainable."""
    layers = [layer for layer in (*profile.layers, total(profile)) if layer.macs]
    bars = [
        (layer, layer.gmacs_per_s, (layer.attainable(profile.roof) if profile.roof else None))
        for layer in layers
    ]
    largest = max([1.0, *(max(achieved, attainable or 0.0) for _, achieved, attainable in bars)])
    bottom = _TOP + _ROW * len(bars)
    shapes: list[Shape] = [
        Text(12, 18, title, 14),
        Text(12, 36, f"GMAC/s; blue: achieved; pale: {describe(profile.roof)}", 11),
        *_grid(largest, bottom),
    ]
    for number, (layer, achieved, attainable) in enumerate(bars):
        y, across = _TOP + _ROW * number, _BARS / largest
        shapes += [
            Text(_LEFT - 8, y + _ROW / 2, layer.name, 11, "end"),
            Rectangle(_LEFT, y + 1, (attainable or 0.0) * across, _ROW - 2, _ATTAINABLE),
            Rectangle(_LEFT, y + 4, achieved * across, _ROW - 8, _ACHIEVED),
            Text(_LEFT + _BARS + 8, y + _ROW / 2, _label(layer, profile.roof), 11),
        ]
    return Drawing(_LEFT + _BARS + _RIGHT, bottom + 30, shapes)


def _label(layer: LayerTime, roof: Roof | None) -> str:
    share = layer.share(roof) if roof else None
    return (
        f"{layer.gmacs_per_s:.0f}"
        + ("" if share is None else f"  {share:.0%}")
        + f"  {layer.us / 1000:.2f} ms"
    )


def _grid(largest: float, bottom: int) -> list[Shape]:
    """Lines at round numbers, four to ten of them."""
    steps = (factor * 10**power for power in range(6) for factor in (1, 2, 5))
    step = next((step for step in steps if largest / step <= 8), 10**6)
    shapes: list[Shape] = []
    for number in range(int(largest / step) + 1):
        x = _LEFT + number * step * _BARS / largest
        shapes += [Line(x, _TOP, x, bottom, _GRID), Text(x, bottom + 12, f"{number * step:g}", 11, "middle")]
    return shapes
