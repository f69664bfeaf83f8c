"""Simple drawings as SVG or PNG: rectangles, lines and texts, in pixels from the upper left corner."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from PIL import Image, ImageDraw, ImageFont

from gatecast.errors import RequestError
from gatecast.files import write_whole

SUFFIXES = (".svg", ".png")

_SCALE = 2
"""Pixels of a PNG for each one of the drawing."""


@dataclass(frozen=True)
class Rectangle:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True)
class Line:
    """A thin straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str


@dataclass(frozen=True)
class Text:
    """A line of text, `y` the middle of its height; `x` its ``start``, ``middle`` or ``end`` (`anchor`)."""

    x: float
    y: float
    text: str
    size: float = 11
    anchor: str = "start"
    colour: str = "#222222"


Shape = Rectangle | Line | Text


@dataclass(frozen=True)
class Drawing:
    """Shapes on white, the later ones in front."""

    width: int
    height: int
    shapes: Sequence[Shape]

    def save(self, path: Path) -> None:
        """Write it whole or not at all.

        Raises
        ------
        RequestError
            The name ends neither in .svg nor in .png.
        FileError
            It cannot be written there.
        """
        check_suffix(path)
        content = self.to_png() if path.suffix.lower() == ".png" else self.to_svg().encode()
        write_whole(path, [content], "Drawing")

    def to_svg(self) -> str:
        """Return it as SVG."""
        lines = "\n".join(_svg(shape) for shape in self.shapes)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" font-family="sans-serif">\n'
            f'<rect width="{self.width}" height="{self.height}" fill="white"/>\n{lines}\n</svg>\n'
        )

    def to_png(self) -> bytes:
        """Return it as PNG, twice as fine."""
        image = Image.new("RGB", (self.width * _SCALE, self.height * _SCALE), "white")
        draw = ImageDraw.Draw(image)
        for shape in self.shapes:
            _paint(draw, shape)
        file = BytesIO()
        image.save(file, "PNG")
        return file.getvalue()


def check_suffix(path: Path) -> None:
    """Refuse a file that is no drawing by its name."""
    if path.suffix.lower() not in SUFFIXES:
        raise RequestError(f"Plot must be a file {' or '.join(SUFFIXES)}, not {path.name}")


def _svg(shape: Shape) -> str:
    match shape:
        case Rectangle():
            place = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
            return f"<rect {place} fill={quoteattr(shape.colour)}/>"
        case Line():
            place = f'x1="{shape.x1:g}" y1="{shape.y1:g}" x2="{shape.x2:g}" y2="{shape.y2:g}"'
            return f"<line {place} stroke={quoteattr(shape.colour)}/>"
        case Text():
            style = f'font-size="{shape.size:g}" text-anchor="{shape.anchor}" dominant-baseline="central"'
            return (
                f'<text x="{shape.x:g}" y="{shape.y:g}" {style} fill={quoteattr(shape.colour)}>'
                f"{escape(shape.text)}</text>"
            )


def _paint(draw: ImageDraw.ImageDraw, shape: Shape) -> None:
    match shape:
        case Rectangle():
            right, bottom = shape.x + shape.width, shape.y + shape.height
            corners = [round(v * _SCALE) for v in (shape.x, shape.y, right, bottom)]
            if corners[2] > corners[0] and corners[3] > corners[1]:
                draw.rectangle((*corners[:2], corners[2] - 1, corners[3] - 1), fill=shape.colour)
        case Line():
            ends = [round(v * _SCALE) for v in (shape.x1, shape.y1, shape.x2, shape.y2)]
            draw.line(ends, fill=shape.colour, width=_SCALE)
        case Text():
            font = ImageFont.load_default(shape.size * _SCALE)
            anchor = {"start": "lm", "middle": "mm", "end": "rm"}[shape.anchor]
            place = (shape.x * _SCALE, shape.y * _SCALE)
            draw.text(place, shape.text, fill=shape.colour, font=font, anchor=anchor)
