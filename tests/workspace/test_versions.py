import pytest

from gatecast.errors import NotFoundError
from gatecast.workspace import Workspace
from gatecast.workspace.versions import next_version, version_row


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace.create(tmp_path / "work")
    for name, content in (("net", b"1"), ("net", b"2"), ("other", b"3")):
        path = tmp_path / "net.onnx"
        path.write_bytes(content)
        workspace.models.register(name, path)
    return workspace


def found(workspace, *which):
    with workspace.store.reading() as database:
        return version_row(database, *which)


def test_the_latest_version_is_found_or_one_that_is_named(workspace):
    assert [found(workspace, "model", "net", v)["version"] for v in (None, 1, 2)] == [2, 1, 2]


@pytest.mark.parametrize("version", [3, 0, -1, 1 << 63, 1 << 200])
def test_a_version_that_is_not_there_is_told_with_those_that_are(workspace, version):
    with pytest.raises(NotFoundError) as error:
        found(workspace, "model", "net", version)
    assert str(error.value) == f"Model net must have the version that is asked for, not {version}"
    assert error.value.hint == "It has: 1, 2."


def test_a_name_that_is_not_there_is_told_with_those_that_are(workspace):
    with pytest.raises(NotFoundError) as error:
        found(workspace, "model", "ne", 7)
    assert str(error.value) == "Model must be a registered one, not ne"
    assert error.value.hint == "There are: net, other."
    with pytest.raises(NotFoundError) as error:
        found(workspace, "image", "net")
    assert str(error.value) == "Image must be one of the workspace, not net"
    assert error.value.hint == "There are: none yet."


def test_a_version_is_never_given_twice(workspace):
    workspace.models.delete(workspace.models.find("net:2"))
    with workspace.store.transaction() as database:
        assert [next_version(database, noun, "net") for noun in ("model", "image")] == [3, 1]
