"""Whether an image can be made so: its target and its formats. Brings NumPy, so loaded when one is made."""

from gatecast.isa import architecture
from gatecast.numerics import parse_formats

FLOAT = "float"
"""Stands for formats where a network is to stay as it is."""


def check_recipe(target: str, format: str) -> None:
    """Refuse a target (NotFoundError) or formats (FormatError) that there are not."""
    architecture(target)
    if format != FLOAT:
        parse_formats(format)
