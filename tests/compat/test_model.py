from datetime import UTC
from pathlib import Path

import pytest

import gatecast.workspace
from gatecast.compat.exceptions import WebserviceException
from gatecast.compat.model import Model
from gatecast.compat.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(gatecast.workspace.Workspace.create(tmp_path / "work", name="mine"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"one")
    return path


def test_registering_prints_what_it_did_and_counts_versions(workspace, file, capsys):
    first = Model.register(workspace, file, "net", tags={"a": "1"}, description="a net")
    second = Model.register(workspace=workspace, model_path=str(file), model_name="net")
    assert capsys.readouterr().out == "Registering model net\nRegistering model net\n"
    assert [(m.name, m.version, m.id, m.description) for m in (first, second)] == [
        ("net", 1, "net:1", "a net"),
        ("net", 2, "net:2", None),
    ]
    assert (first.tags, first.properties, first.parent_id) == ({"a": "1"}, {}, None)
    assert first.url == "gatecast://mine/models/net/1"
    assert first.created_time.tzinfo is UTC


def test_a_model_is_found_by_name_version_id_and_tags(workspace, file):
    for tag in ("x", "y"):
        Model.register(workspace, file, "net", tags={"kind": tag})
    assert Model(workspace, "net").version == 2
    assert Model(workspace, name="net", version=1).version == 1
    assert Model(workspace, id="net:1").version == 1
    assert Model(workspace, "net", tags=[["kind", "x"]]).version == 1
    assert [m.version for m in Model.list(workspace, tags=["kind"])] == [2, 1]
    assert list(workspace.models) == ["net"]


def test_what_is_not_there_is_told_in_the_old_words(workspace, file):
    with pytest.raises(WebserviceException, match="Error, one of id or name must be provided"):
        Model(workspace)
    with pytest.raises(WebserviceException, match="ModelNotFound: Model with name net not found in provided"):
        Model(workspace, "net")
    Model.register(workspace, file, "net")
    with pytest.raises(WebserviceException, match="ModelNotFound: Model with name net not found"):
        Model(workspace, "net", tags=["none"])
    with pytest.raises(WebserviceException, match="ModelNotFound: Model with id net:7 not found"):
        Model(workspace, id="net:7")


def test_tags_change_and_properties_only_grow(workspace, file):
    model = Model.register(workspace, file, "net", tags={"a": "1", "b": "2"})
    model.add_tags({"c": "3"})
    model.remove_tags("a")
    model.add_properties({"p": "1"})
    assert (model.tags, model.properties) == ({"b": "2", "c": "3"}, {"p": "1"})
    model.update(tags={"only": "this"}, description="changed")
    assert (Model(workspace, "net").tags, Model(workspace, "net").description) == (
        {"only": "this"},
        "changed",
    )
    with pytest.raises(WebserviceException):
        model.add_properties({"p": "2"})


def test_a_model_comes_back_whole_and_goes_when_deleted(workspace, file, tmp_path):
    model = Model.register(workspace, file, "net")
    path = model.download(tmp_path / "out")
    assert Path(path).read_bytes() == b"one"
    with pytest.raises(WebserviceException, match="must not exist"):
        model.download(tmp_path / "out")
    model.delete()
    assert Model.list(workspace) == []


def test_a_path_that_is_missing_is_an_error_of_the_old_kind(workspace):
    with pytest.raises(WebserviceException) as refused:
        Model.register(workspace, "nowhere", "net")
    assert str(refused.value).startswith("WebserviceException:\n\tMessage: ")
    assert refused.value.status_code is None
