"""Drawings say the same in SVG and PNG."""

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gatecast.cli.drawing import Drawing, Line, Rectangle, Text
from gatecast.errors import FileError, RequestError

SHAPES = (
    Rectangle(2, 3, 10, 4, "#ff0000"),
    Line(0, 20, 30, 20, "#0000ff"),
    Text(4, 30, 'a < b & "c"', 10, "middle"),
)
DRAWING = Drawing(40, 36, SHAPES)


def test_svg_is_xml_with_each_shape_in_its_place():
    root = ElementTree.fromstring(DRAWING.to_svg())
    _, rectangle, line, text = root
    assert root.get("viewBox") == "0 0 40 36"
    assert [rectangle.get(name) for name in ("x", "y", "width", "height", "fill")] == [
        "2",
        "3",
        "10",
        "4",
        "#ff0000",
    ]
    assert [line.get(name) for name in ("x1", "y1", "x2", "y2", "stroke")] == [
        "0",
        "20",
        "30",
        "20",
        "#0000ff",
    ]
    assert (text.text, text.get("text-anchor")) == ('a < b & "c"', "middle")


def test_png_is_twice_as_fine():
    pixels = np.asarray(Image.open(io.BytesIO(DRAWING.to_png())))
    assert pixels.shape == (72, 80, 3)
    red = (pixels == (255, 0, 0)).all(axis=-1)
    assert np.argwhere(red).min(axis=0).tolist() == [6, 4]
    assert np.argwhere(red).max(axis=0).tolist() == [13, 23]
    assert (pixels[40, :60] == (0, 0, 255)).all()
    assert (pixels[50:] < 128).any()


def test_a_rectangle_without_width_is_not_there():
    pixels = np.asarray(Image.open(io.BytesIO(Drawing(4, 4, [Rectangle(1, 1, 0, 2, "#000000")]).to_png())))
    assert (pixels == 255).all()


@pytest.mark.parametrize(("name", "first"), [("x.svg", b"<svg"), ("x.PNG", b"\x89PNG")])
def test_the_name_says_which(tmp_path, name, first):
    DRAWING.save(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(first)


def test_other_names_are_refused(tmp_path):
    with pytest.raises(RequestError, match=r"^Plot must be a file \.svg or \.png, not x\.pdf$"):
        DRAWING.save(tmp_path / "x.pdf")


def test_a_folder_that_is_not_there_is_told():
    with pytest.raises(FileError, match="^Drawing "):
        DRAWING.save(Path("/nowhere/x.svg"))
