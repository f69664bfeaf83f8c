"""The table of an artifact's layers."""

from gatecast.artifact import Artifact

from .terminal import count, print_table

_SUMMED = ("macs", "weight_bytes", "bytes", "tiles")


def print_layers(artifact: Artifact) -> None:
    """Print what each layer costs and where it runs, and the sums."""
    rows = [
        (layer.name, layer.kind, layer.where, *(_number(getattr(layer, name)) for name in _SUMMED))
        for layer in artifact.layers
    ]
    sums = [count(sum(getattr(layer, name) for layer in artifact.layers)) for name in _SUMMED]
    print_table(
        ("layer", "kind", "where", ">MACs", ">weight bytes", ">bytes moved", ">tiles"),
        [*rows, ("total", "", "", *sums)],
    )


def _number(value: int) -> str:
    return count(value) if value else ""
