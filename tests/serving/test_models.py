import pytest

from gatecast.errors import DeviceError, FileError
from gatecast.serving import Code, Models, ModelSource, RefusalError, State


@pytest.fixture
def folder(tmp_path):
    """A base folder with versions 1, 7 and 00000123, and things that are no versions."""
    for version in ("1", "7", "00000123"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "any.gcast").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "9").touch()
    return tmp_path


@pytest.fixture
def opened(classifier):
    """Remembers which paths were opened, with the session of each."""

    class Opened(dict):
        def __call__(self, path):
            if path.parent.name in ("7",) and "broken" in self:
                raise FileError("weights must have checksum 1, not 2")
            self[path] = classifier()
            return self[path]

    return Opened()


def loaded(source, opened):
    models = Models([source], opened)
    models.load()
    return models


def refusal(call, *arguments, **options):
    with pytest.raises(RefusalError) as error:
        call(*arguments, **options)
    return error.value.code, str(error.value)


def test_a_file_is_version_1(tmp_path, opened):
    path = tmp_path / "x.gcast"
    path.touch()
    models = loaded(ModelSource("m", path), opened)
    assert [(v.number, v.path, v.state) for v in models.versions("m")] == [(1, path, State.AVAILABLE)]
    assert models.find("m").session is opened[path]


def test_of_a_folder_the_newest_version_is_loaded(folder, opened):
    models = loaded(ModelSource("m", folder), opened)
    assert [version.number for version in models.versions("m")] == [123]
    assert list(opened) == [folder / "00000123" / "any.gcast"]


def test_all_versions_may_be_loaded_and_are_newest_first(folder, opened):
    models = loaded(ModelSource("m", folder, "all"), opened)
    assert [version.number for version in models.versions("m")] == [123, 7, 1]
    assert models.find("m").number == 123
    assert models.find("m", 7).number == 7
    assert models.find("m", 0).number == 123


def test_version_zero_is_itself_where_it_exists(folder, opened):
    (folder / "1").rename(folder / "0")
    models = loaded(ModelSource("m", folder, "all"), opened)
    assert models.find("m", 0).number == 0


def test_unknown_names_versions_and_labels_are_refused(folder, opened):
    models = loaded(ModelSource("m", folder), opened)
    assert refusal(models.find, "x") == (Code.NOT_FOUND, "Servable not found for request: Latest(x)")
    assert refusal(models.find, "m", 7) == (Code.NOT_FOUND, "Servable not found for request: Specific(m, 7)")
    assert refusal(models.find, "m", label="a") == (
        Code.INVALID_ARGUMENT,
        "Unrecognized servable version label: a",
    )
    assert models.versions("x") == []


def test_a_label_finds_its_version(folder, opened):
    models = loaded(ModelSource("m", folder, "all"), opened)
    models.assign_label("m", "stable", 7)
    assert models.find("m", label="stable").number == 7


@pytest.mark.parametrize(("name", "version"), [("m", 8), ("x", 1)])
def test_a_label_needs_a_version_that_is_available(folder, opened, name, version):
    models = loaded(ModelSource("m", folder, "all"), opened)
    assert refusal(models.assign_label, name, "stable", version) == (
        Code.FAILED_PRECONDITION,
        f"Request to assign label to version {version} of model {name}, "
        "which is not currently available for inference",
    )


def test_labels_of_a_source_are_assigned_and_their_versions_loaded(folder, opened):
    models = loaded(ModelSource("m", folder, labels={"old": 1, "new": 123}), opened)
    assert [version.number for version in models.versions("m")] == [123, 1]
    assert [models.find("m", label=label).number for label in ("old", "new")] == [1, 123]
    assert models.find("m").number == 123


def test_a_label_for_a_version_that_fails_stops_the_start(folder, opened):
    opened["broken"] = None
    models = Models([ModelSource("m", folder, labels={"old": 7})], opened)
    with pytest.raises(RefusalError) as error:
        models.load()
    assert str(error.value).startswith("Request to assign label to version 7 of model m, which is not")
    assert error.value.hint == "A label needs a version that is loaded; the log says why one is not."


def test_a_label_must_name_a_version_that_is_there(folder):
    with pytest.raises(FileError) as error:
        Models([ModelSource("m", folder, labels={"old": 2})], lambda path: None)
    assert str(error.value) == f"Label old of model m must name a version in {folder}, not 2"
    assert error.value.hint == "Versions there: 1, 7, 123."
    with pytest.raises(FileError, match="must name a version in .*any.gcast, not 2$"):
        Models([ModelSource("m", folder / "7" / "any.gcast", labels={"old": 2})], lambda path: None)


def test_two_folders_of_one_version_are_refused(folder):
    (folder / "001").mkdir()
    with pytest.raises(FileError) as error:
        Models([ModelSource("m", folder)], lambda path: None)
    assert str(error.value) == f"{folder} must hold one folder for version 1 of model m, not 001 and 1"
    assert error.value.hint == "Rename one of them, or take it away."


def test_a_version_that_cannot_be_loaded_ends_and_others_serve(folder, opened, caplog):
    opened["broken"] = None
    models = loaded(ModelSource("m", folder, "all"), opened)
    states = {version.number: version.state for version in models.versions("m")}
    assert states == {123: State.AVAILABLE, 7: State.END, 1: State.AVAILABLE}
    assert caplog.messages == ["Model m version 7 could not be loaded: weights must have checksum 1, not 2"]
    assert refusal(models.find, "m", 7)[0] is Code.NOT_FOUND


def test_a_model_without_any_version_that_loads_is_an_error(folder, caplog):
    def fail(path):
        raise DeviceError("Device fpga must be connected, but is not")

    models = Models([ModelSource("m", folder)], fail)
    with pytest.raises(DeviceError, match="must be connected"):
        models.load()
    assert caplog.messages == []  # the error is told once, by whoever catches it


def test_unloading_closes_each_session_once(folder, opened):
    models = loaded(ModelSource("m", folder, "all"), opened)
    models.unload()
    models.unload()
    assert all(session.closed for session in opened.values())
    assert [version.state for version in models.versions("m")] == [State.END] * 3
    assert refusal(models.find, "m")[0] is Code.NOT_FOUND


def test_a_path_that_is_absent_is_refused(tmp_path):
    with pytest.raises(FileError) as error:
        Models([ModelSource("m", tmp_path / "x.gcast")], lambda path: None)
    assert str(error.value) == (
        f"Model m must be a .gcast file or a folder of versions, but {tmp_path / 'x.gcast'} is absent"
    )
    assert error.value.hint == "Check the path."


def test_a_folder_without_versions_is_refused_with_a_hint(tmp_path):
    with pytest.raises(FileError) as error:
        Models([ModelSource("m", tmp_path)], lambda path: None)
    assert str(error.value) == (
        f"{tmp_path} must hold a folder for each version of model m, such as 1, but holds none"
    )
    assert error.value.hint.startswith(f"Put the artifact at {tmp_path / '1' / 'model.gcast'}")


@pytest.mark.parametrize("count", [0, 2])
def test_a_version_holds_one_artifact(tmp_path, count):
    (tmp_path / "3").mkdir()
    for index in range(count):
        (tmp_path / "3" / f"{index}.gcast").touch()
    with pytest.raises(FileError) as error:
        Models([ModelSource("m", tmp_path)], lambda path: None)
    assert str(error.value) == f"{tmp_path / '3'} must hold one .gcast file, not {count}"
