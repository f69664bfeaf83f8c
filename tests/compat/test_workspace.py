import json

import pytest

import gatecast.workspace
from gatecast.compat.exceptions import UserErrorException, WorkspaceException
from gatecast.compat.workspace import Workspace


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.delenv("GATECAST_WORKSPACE", raising=False)
    return gatecast.workspace.Workspace.create(
        tmp_path / "work", name="mine", resource_group="lab", location="here", subscription_id="s-1"
    )


def test_settings_have_their_old_names(own, monkeypatch):
    monkeypatch.chdir(own.folder)
    found = Workspace.from_config()
    settings = (found.name, found.resource_group, found.location, found.subscription_id)
    assert settings == ("mine", "lab", "here", "s-1")
    assert found.get_details()["location"] == "here"
    assert (found.models, found.images, found.compute_targets, found.webservices) == ({}, {}, {}, {})


def test_a_workspace_is_found_from_below_and_by_its_variable(own, monkeypatch, tmp_path):
    below = own.folder / "a/b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert Workspace.from_config().name == "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATECAST_WORKSPACE", str(own.folder))
    assert Workspace.from_config().name == "mine"


def test_a_configuration_names_the_workspace_of_its_folder(own, tmp_path):
    Workspace(own).write_config(own.folder)
    config = own.folder / ".azureml/config.json"
    assert json.loads(config.read_text())["workspace_name"] == "mine"
    assert Workspace.from_config(config).name == "mine"
    assert Workspace.from_config(own.folder).name == "mine"


def test_a_configuration_for_another_workspace_is_refused(own):
    (own.folder / "config.json").write_text(
        json.dumps({"subscription_id": "s", "resource_group": "r", "workspace_name": "theirs"})
    )
    with pytest.raises(WorkspaceException, match="names workspace theirs, but that of .* is mine"):
        Workspace.from_config(own.folder)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("{", "must be JSON"),
        ("[]", "must have subscription_id, resource_group, workspace_name"),
        ('{"subscription_id": "", "workspace_name": "mine"}', "must have resource_group"),
    ],
)
def test_a_configuration_that_is_none_is_refused(own, text, problem):
    (own.folder / "config.json").write_text(text)
    with pytest.raises(UserErrorException, match=problem):
        Workspace.from_config(own.folder)


def test_where_there_is_no_workspace_the_old_text_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("GATECAST_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserErrorException, match=r"config\.json, could not be found in") as refused:
        Workspace.from_config()
    assert "gatecast workspace create" in refused.value.hint
