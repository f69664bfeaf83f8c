from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from gatecast.compat.exceptions import WebserviceException
from gatecast.compat.image import AccelContainerImage, Image
from gatecast.errors import NotFoundError

RECORD = SimpleNamespace(
    id="clothes:2",
    name="clothes",
    version=2,
    models=("net:1",),
    tags={"a": "1"},
    properties={"b": "2"},
    description="",
    created_time=datetime(2026, 1, 2, tzinfo=UTC),
    location="localhost/clothes:2",
)


@pytest.fixture
def workspace():
    """A workspace with one image, which notes what it was asked for."""
    asked = []

    def listed(*arguments, **named):
        asked.append((*arguments, named))
        return [RECORD]

    def found(text, version=None):
        asked.append((text, version))
        if text.startswith("other"):
            raise NotFoundError(f"Image must be one of the workspace, not {text}", hint="There are: clothes.")
        return RECORD

    images = SimpleNamespace(list=listed, get=found, find=found)
    return SimpleNamespace(gatecast=SimpleNamespace(images=images), asked=asked)


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        ({}, (None, None, {"tags": [], "properties": []})),
        ({"image_name": "clothes", "model_name": "net"}, ("clothes", "net", {"tags": [], "properties": []})),
        ({"model_id": "net:1", "model_name": "net"}, (None, "net:1", {"tags": [], "properties": []})),
        (
            {"tags": ["a", ["b", "2"]], "properties": [["c"]]},
            (None, None, {"tags": [("a", None), ("b", "2")], "properties": [("c", None)]}),
        ),
    ],
)
def test_the_workspace_does_the_filtering(workspace, wanted, asked):
    (image,) = Image.list(workspace, **wanted)
    assert workspace.asked == [asked]
    assert isinstance(image, AccelContainerImage)


def test_an_image_tells_what_its_record_tells(workspace):
    image = Image(workspace, "clothes", version="2")
    assert workspace.asked == [("clothes", 2)]
    assert (image.id, image.name, image.version) == ("clothes:2", "clothes", "2")
    assert (image.tags, image.properties, image.description) == ({"a": "1"}, {"b": "2"}, None)
    assert (image.created_time, image.image_location) == (RECORD.created_time, RECORD.location)
    assert (image.model_ids, image.image_type, image.image_flavor) == (["net:1"], "Docker", "AccelContainer")


def test_what_was_told_may_be_changed_by_the_caller_alone(workspace):
    Image(workspace, id="clothes:2").tags["new"] = "x"
    assert RECORD.tags == {"a": "1"}


def test_an_image_that_is_not_there_is_told_in_the_old_words(workspace):
    with pytest.raises(
        WebserviceException, match=r"ImageNotFound: Image must be one of .* not other:1\. There"
    ):
        Image(workspace, id="other:1")
    with pytest.raises(WebserviceException, match="Error, one of id or name must be provided"):
        Image(workspace)
