import os
import socket
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from gatecast.errors import ConflictError, FileError, NotFoundError, WorkspaceError
from gatecast.workspace import Model, ModelFile

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"abc")
    return path


@pytest.fixture
def folder(tmp_path):
    """A folder like a SavedModel."""
    root = tmp_path / "saved"
    (root / "variables").mkdir(parents=True)
    (root / "saved_model.pb").write_bytes(b"graph")
    (root / "variables/variables.index").write_bytes(b"abc")
    (root / "a b ü.txt").write_bytes(b"")
    return root


def add_image(workspace, name, *models):
    """Put an image that holds these models straight into the tables."""
    with workspace.store.transaction() as database:
        database.execute(
            "INSERT INTO operations VALUES (?, 'image', ?, '{}', 'Succeeded', 'x', 'x', '', NULL, '1-1')",
            (name, name),
        )
        columns = "name, version, state, target, size, tags, properties, labels, description, created_time"
        database.execute(
            f"INSERT INTO images ({columns}, operation)"
            " VALUES (?, 1, 'Succeeded', 'software', 0, '{}', '{}', '{}', '', 'x', ?)",
            (name, name),
        )
        for position, model in enumerate(models):
            database.execute(
                "INSERT INTO image_models VALUES (?, 1, ?, ?, ?)",
                (name, position, model.name, model.version),
            )


def test_a_file_is_registered_with_all_that_is_said_about_it(ws, file, check):
    before = datetime.now(UTC)
    model = ws.models.register(
        "net", file, tags={"stage": "test"}, properties={"task": "faces"}, description="small\nnet"
    )
    assert before <= model.created_time <= before + timedelta(minutes=1)
    assert model == Model(
        workspace="demo",
        name="net",
        version=1,
        digest=ABC,
        size=3,
        is_folder=False,
        file_name="net.onnx",
        files=(ModelFile("net.onnx", 3, ABC),),
        tags={"stage": "test"},
        properties={"task": "faces"},
        description="small\nnet",
        created_time=model.created_time,
        parent=None,
    )
    assert (model.id, model.url) == ("net:1", "gatecast://demo/models/net/1")
    check(ws)


def test_a_folder_keeps_its_paths_and_has_the_digest_that_sha256sum_gives(ws, folder):
    model = ws.models.register("saved", folder)
    assert [file.path for file in model.files] == ["a b ü.txt", "saved_model.pb", "variables/variables.index"]
    assert (model.is_folder, model.size, model.file_name) == (True, 8, "saved")
    lines = subprocess.run(
        ["sha256sum", *(file.path for file in model.files)], cwd=folder, capture_output=True, check=True
    ).stdout
    total = subprocess.run(["sha256sum"], input=lines, capture_output=True, check=True).stdout
    assert model.digest == f"sha256:{total.split()[0].decode()}"


def test_versions_count_up_and_are_never_given_again(ws, file):
    assert [ws.models.register("net", file).version for _ in range(3)] == [1, 2, 3]
    ws.models.delete(ws.models.get("net", 3))
    ws.models.delete(ws.models.get("net", 2))
    assert ws.models.get("net").version == 1
    assert ws.models.register("net", file).id == "net:4"
    assert ws.models.register("other", file).id == "other:1"


def test_a_model_is_found_by_name_and_version(ws, file):
    first, second = ws.models.register("net", file), ws.models.register("net", file)
    assert ws.models.get("net") == ws.models.find("net") == second
    assert ws.models.get("net", 1) == ws.models.find("net:1") == first


def test_an_unknown_model_or_version_is_refused_with_those_that_there_are(ws, file):
    with pytest.raises(NotFoundError, match="^Model must be a registered one, not net$") as caught:
        ws.models.find("net")
    assert caught.value.hint == "There are: none yet."
    ws.models.register("net", file)
    ws.models.register("net", file)
    with pytest.raises(NotFoundError, match="must have the version that is asked for, not 3") as caught:
        ws.models.find("net:3")
    assert caught.value.hint == "It has: 1, 2."
    with pytest.raises(NotFoundError, match="not nett$") as caught:
        ws.models.get("nett", 1)
    assert caught.value.hint == "There are: net."


@pytest.mark.parametrize("name", ["", ".net", "-n", "a/b", "a b", "ü", "a" * 256, "a\n", "a:b", None, 7])
def test_a_wrong_name_is_refused(ws, file, name, check):
    with pytest.raises(WorkspaceError, match="^Name of a model must be 1 to 255 letters, digits"):
        ws.models.register(name, file)
    assert ws.models.list() == []
    check(ws)


@pytest.mark.parametrize("name", ["a", "0", "a" * 255, "A.b-c_d", "net.1.accelonnx"])
def test_a_right_name_is_taken(ws, file, name):
    assert ws.models.register(name, file).name == name


@pytest.mark.parametrize("version", ["0", "-1", "one", "", "1.0", " 1", "1:1", "²", "9223372036854775808"])
def test_a_wrong_version_is_refused(ws, file, version):
    ws.models.register("net", file)
    with pytest.raises(WorkspaceError, match="^Version of net must be a whole number from 1, not"):
        ws.models.find(f"net:{version}")


@pytest.mark.parametrize("version", [0, -1, (1 << 63) - 1, 1 << 63, 1 << 200])
def test_a_version_that_no_model_can_have_is_not_found(ws, file, version):
    ws.models.register("net", file)
    with pytest.raises(NotFoundError, match="must have the version that is asked for"):
        ws.models.get("net", version)


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"": "x"}, "Keys of tags must be 1 to 255 printable characters without '=', not ''"),
        ({"a=b": "x"}, "not 'a=b'"),
        ({"a\nb": "x"}, r"not 'a\\nb'"),
        ({"k" * 256: "x"}, "Keys of tags must be"),
        ({7: "x"}, "not 7"),
        ({"k": 7}, "Value of k in tags must be text of at most 8192 characters"),
        ({"k": "x" * 8193}, "Value of k in tags"),
        ({"k": "a\0b"}, "Value of k in tags"),
        ({"k": "\ud800"}, "Value of k in tags"),
        ({str(n): "" for n in range(257)}, "At most 256 tags may be given, not 257"),
    ],
)
def test_wrong_tags_are_refused(ws, file, tags, text):
    with pytest.raises(WorkspaceError, match=text):
        ws.models.register("net", file, tags=tags)
    with pytest.raises(WorkspaceError, match=text.replace("tags", "properties")):
        ws.models.register("net", file, properties=tags)
    assert ws.models.list() == []


def test_tags_may_hold_any_text(ws, file):
    tags = {"ключ": "значение", "empty": "", "quote": "'; DROP TABLE models; --", "lines": "a\nb=c"}
    assert ws.models.register("net", file, tags=tags).tags == tags


def test_a_description_must_be_text(ws, file):
    with pytest.raises(WorkspaceError, match="Description must be text of at most 8192 characters"):
        ws.models.register("net", file, description="x" * 8193)


def test_models_are_listed_by_name_and_the_newest_version_first(ws, file):
    for name in ("b", "a", "b", "c", "b"):
        ws.models.register(name, file)
    assert [m.id for m in ws.models.list()] == ["a:1", "b:3", "b:2", "b:1", "c:1"]
    assert [m.id for m in ws.models.list("b")] == ["b:3", "b:2", "b:1"]
    assert [m.id for m in ws.models.list(latest=True)] == ["a:1", "b:3", "c:1"]
    assert ws.models.list("none") == []


def test_filters_take_models_that_have_all_keys_and_values(ws, file):
    ws.models.register("a", file, tags={"x": "1", "y": "2"})
    ws.models.register("b", file, tags={"x": "2"}, properties={"p": ""})
    ws.models.register("b", file, tags={"z": "2"})

    def ids(**given):
        return [model.id for model in ws.models.list(**given)]

    assert ids(tags=[("x", None)]) == ["a:1", "b:1"]
    assert ids(tags=[("x", "2")]) == ["b:1"]
    assert ids(tags=[("x", "1"), ("y", None)]) == ["a:1"]
    assert ids(tags=[("x", "")]) == []
    assert ids(properties=[("p", "")]) == ["b:1"]
    assert ids(tags=[("x", None)], latest=True) == ["a:1"]


def test_tags_and_description_change_and_the_rest_stays(ws, file):
    model = ws.models.register("net", file, tags={"a": "1", "b": "2"}, description="old")
    ws.models.update(model, add_tags={"c": "3"})
    changed = ws.models.update(model, add_tags={"a": "9"}, remove_tags=["b", "none"], description="")
    assert (changed.tags, changed.description) == ({"a": "9", "c": "3"}, "")
    assert ws.models.get("net") == changed
    assert (changed.digest, changed.created_time) == (model.digest, model.created_time)


def test_properties_are_added_and_never_changed(ws, file):
    model = ws.models.register("net", file, properties={"p": "1"})
    assert ws.models.update(model, add_properties={"q": "2", "p": "1"}).properties == {"p": "1", "q": "2"}
    with pytest.raises(WorkspaceError, match="^Property p of net:1 must stay '1', not become '2'$"):
        ws.models.update(model, add_properties={"p": "2", "r": "3"}, add_tags={"t": ""})
    assert ws.models.get("net").properties == {"p": "1", "q": "2"}
    assert ws.models.get("net").tags == {}


def test_a_model_that_is_gone_cannot_be_changed_or_deleted(ws, file):
    model = ws.models.register("net", file)
    ws.models.delete(model)
    for change in (ws.models.delete, ws.models.update):
        with pytest.raises(NotFoundError, match="Model must be a registered one, not net"):
            change(model)


def test_the_parent_must_exist_and_may_be_deleted(ws, file):
    with pytest.raises(NotFoundError, match="not none"):
        ws.models.register("net", file, parent="none:1")
    parent = ws.models.register("net", file)
    child = ws.models.register("child", file, parent=parent.id)
    assert child.parent == "net:1"
    ws.models.delete(parent)
    assert ws.models.get("child") == child


def test_deleting_removes_the_files_that_nothing_else_uses(ws, file, folder, check):
    first, other = ws.models.register("net", file), ws.models.register("saved", folder)
    kept = ws.models.file(first)
    ws.models.delete(other)
    assert kept.read_bytes() == b"abc"  # also a file of `saved`
    check(ws)
    ws.models.delete(first)
    assert not kept.exists()
    check(ws)


def test_a_model_in_an_image_is_not_deleted_and_the_images_are_named(ws, file, check):
    one, two = ws.models.register("net", file), ws.models.register("net", file)
    add_image(ws, "first", one)
    with pytest.raises(
        ConflictError, match="^Model net:1 must not be in use to be deleted; image first:1 holds it"
    ):
        ws.models.delete(one)
    add_image(ws, "both", one, two)
    with pytest.raises(ConflictError, match="images both:1, first:1 hold it") as caught:
        ws.models.delete(one)
    assert caught.value.hint == "Delete the images first."
    assert [m.id for m in ws.models.list()] == ["net:2", "net:1"]
    check(ws)


def test_the_file_of_a_model_is_read_only(ws, file, folder):
    path = ws.models.file(ws.models.register("net", file))
    assert path.read_bytes() == b"abc"
    assert path.stat().st_mode & 0o777 == 0o444
    with pytest.raises(WorkspaceError, match="^Model saved:1 must be a file, not a folder of 3$"):
        ws.models.file(ws.models.register("saved", folder))


def test_a_file_lost_from_the_workspace_is_told(ws, file):
    model = ws.models.register("net", file)
    ws.models.file(model).unlink()
    with pytest.raises(NotFoundError, match=f"^File {ABC} must be in the workspace"):
        ws.models.file(model)


def test_checkout_gives_the_original_names_for_the_time_of_the_block(ws, file, folder, check):
    with ws.models.checkout(ws.models.register("net", file)) as path:
        assert (path.name, path.read_bytes()) == ("net.onnx", b"abc")
    assert not path.exists()
    with ws.models.checkout(ws.models.register("saved", folder)) as path:
        assert path.name == "saved"
        assert (path / "variables/variables.index").read_bytes() == b"abc"
        assert not (path / "variables/variables.index").is_symlink()
    check(ws)


@pytest.mark.parametrize("name", ["net.onnx", "saved"])
def test_an_error_during_a_checkout_names_the_file_of_the_model(ws, file, folder, name):
    model = ws.models.register("net", file if name == "net.onnx" else folder)
    with pytest.raises(FileError) as error:
        with ws.models.checkout(model) as path:
            raise FileError(f"File {path}/x must be sound", "Copy it again.")
    assert (str(error.value), error.value.hint) == (f"File net:1/{name}/x must be sound", "Copy it again.")


def test_download_gives_back_what_was_registered(ws, file, folder, tmp_path):
    saved = ws.models.download(ws.models.register("saved", folder), tmp_path / "out/deep")
    assert saved == tmp_path / "out/deep/saved"
    diff = subprocess.run(["diff", "-r", folder, saved], capture_output=True, check=False)
    assert (diff.returncode, diff.stdout) == (0, b"")
    net = ws.models.download(ws.models.register("net", file), tmp_path / "out")
    assert net.read_bytes() == b"abc"
    assert os.access(net, os.W_OK)
    assert net.stat().st_mode & 0o200


def test_download_replaces_only_what_it_is_allowed_to(ws, file, folder, tmp_path):
    net, saved = ws.models.register("net", file), ws.models.register("saved", folder)
    out = tmp_path / "out"
    (out / "saved/old").mkdir(parents=True)
    (out / "net.onnx").write_bytes(b"old")
    for model in (net, saved):
        with pytest.raises(ConflictError, match="must not exist"):
            ws.models.download(model, out)
    assert (out / "net.onnx").read_bytes() == b"old"
    assert (out / "saved/old").exists()
    for model in (net, saved):
        ws.models.download(model, out, exist_ok=True)
    assert (out / "net.onnx").read_bytes() == b"abc"
    assert not (out / "saved/old").exists()
    assert sorted(os.listdir(out)) == ["net.onnx", "saved"]


def test_a_damaged_file_is_not_handed_out(ws, file, tmp_path):
    model = ws.models.register("net", file)
    blob = ws.models.file(model)
    blob.chmod(0o644)
    blob.write_bytes(b"abd")
    with pytest.raises(
        FileError, match="^File net.onnx of model net:1 must have digest sha256:ba78.*changed$"
    ):
        ws.models.download(model, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_registering_again_what_is_there_stores_it_once(ws, file, check):
    ws.models.register("a", file)
    ws.models.register("b", file)
    assert len(os.listdir(ws.store.root / "blobs/sha256")) == 1
    check(ws)


def test_a_missing_path_is_refused(ws, tmp_path):
    with pytest.raises(FileError, match=f"^Model {tmp_path}/none must be readable: {tmp_path}/none: No such"):
        ws.models.register("net", tmp_path / "none")


def test_an_empty_folder_is_refused(ws, tmp_path):
    (tmp_path / "empty/inside").mkdir(parents=True)
    with pytest.raises(FileError, match="must hold a file; the folder is empty"):
        ws.models.register("net", tmp_path / "empty")


def test_an_empty_file_is_taken(ws, tmp_path):
    (tmp_path / "empty").touch()
    assert ws.models.register("net", tmp_path / "empty").size == 0


def test_links_inside_a_folder_are_followed(ws, folder):
    (folder / "link.pb").symlink_to("saved_model.pb")
    (folder / "variables/up").symlink_to("../saved_model.pb")
    model = ws.models.register("saved", folder)
    assert {file.path for file in model.files} >= {"link.pb", "variables/up"}
    assert len({file.digest for file in model.files}) == 3


def test_a_link_to_a_model_is_followed(ws, file, folder, tmp_path):
    (tmp_path / "latest.onnx").symlink_to(file)
    assert ws.models.register("net", tmp_path / "latest.onnx").file_name == "latest.onnx"
    (tmp_path / "latest").symlink_to(folder)
    assert len(ws.models.register("saved", tmp_path / "latest").files) == 3


def test_links_that_leave_the_folder_are_refused(ws, folder, file, check):
    (folder / "link").symlink_to("../net.onnx")
    with pytest.raises(
        FileError, match=f"^Link {folder}/link must stay in {folder}, not lead to {file}$"
    ) as caught:
        ws.models.register("saved", folder)
    assert "cp -rL" in caught.value.hint
    check(ws)


def test_broken_and_circular_links_are_refused(ws, folder):
    (folder / "link").symlink_to("nowhere")
    with pytest.raises(FileError, match="No such file"):
        ws.models.register("saved", folder)
    (folder / "link").unlink()
    (folder / "link").symlink_to("link")
    with pytest.raises(FileError, match="must not be a link that leads to itself|Too many levels"):
        ws.models.register("saved", folder)


def test_links_to_folders_are_refused(ws, folder):
    (folder / "loop").symlink_to(".")
    with pytest.raises(FileError, match="must be a file or a folder, not a link to a folder"):
        ws.models.register("saved", folder)


def test_what_is_no_file_is_refused_at_once(ws, folder, tmp_path):
    os.mkfifo(folder / "pipe")
    with pytest.raises(
        FileError, match=f"^Path {folder}/pipe in a model must be a file or a folder, not a pipe"
    ):
        ws.models.register("saved", folder)
    with pytest.raises(FileError, match="must be a file or a folder, not a pipe"):
        ws.models.register("net", folder / "pipe")
    with pytest.raises(FileError, match="^Model /dev/zero must be a file or a folder, not a device"):
        ws.models.register("net", "/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(FileError, match="not a socket"):
            ws.models.register("net", tmp_path / "s")


def test_a_file_that_became_a_pipe_is_not_waited_for(ws, file, monkeypatch):
    source = __import__("gatecast.workspace.sources", fromlist=["Source"]).Source

    def swapped(path, apart_from=None):
        file.unlink()
        os.mkfifo(file)
        return source("net", False, (("net", file),))

    monkeypatch.setattr("gatecast.workspace.models.find_source", swapped)
    with pytest.raises(FileError, match="must be a plain file"):
        ws.models.register("net", file)


def test_too_many_files_and_too_many_bytes_are_refused_before_anything_is_copied(
    ws, folder, monkeypatch, check
):
    monkeypatch.setattr("gatecast.workspace.sources.MOST_FILES", 2)
    with pytest.raises(FileError, match="must have at most 2 files, not more"):
        ws.models.register("saved", folder)
    with (folder.parent / "huge.bin").open("wb") as file:
        file.truncate((1 << 37) + 1)
    with pytest.raises(FileError, match="must have at most 137,438,953,472 bytes, not 137,438,953,473"):
        ws.models.register("net", folder.parent / "huge.bin")
    check(ws)


def test_names_that_are_no_text_are_refused(ws, folder):
    (folder / "line\nbreak").touch()
    with pytest.raises(FileError, match=r"in a model must be printable text"):
        ws.models.register("saved", folder)
    (folder / "line\nbreak").unlink()
    with open(os.fsencode(folder) + b"/\xff", "wb"):
        pass
    with pytest.raises(FileError, match=r"udcff' in a model must be printable text"):
        ws.models.register("saved", folder)


def test_the_workspace_itself_is_no_model(ws):
    for path in (ws.folder, ws.store.root, ws.folder.parent):
        with pytest.raises(FileError, match=f"must not hold the workspace {ws.folder}"):
            ws.models.register("net", path)


def test_the_current_folder_has_a_name(ws, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert ws.models.register("saved", ".").file_name == "saved"
