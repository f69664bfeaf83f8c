"""`gatecast image`, with a stand-in for the libraries; what images are is tested with the workspace."""

import json
import tarfile

import pytest
from tests.workspace.root_files import write_tar

import gatecast
from gatecast import zoo
from gatecast.cli import main
from gatecast.workspace import Workspace, base_image
from gatecast.workspace.distributions import PYTHON, libraries, libraries_key
from gatecast.workspace.layer_cache import LayerCache, cache_folder
from gatecast.workspace.layers import bytes_entry


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A workspace with model m, an artifact, and image demo:1 of it."""
    folder = tmp_path_factory.mktemp("images")
    gatecast.compile(gatecast.quantize(zoo.load("fashion"))).save(folder / "m.gcast")
    ws = Workspace.create(folder / "shop")
    ws.models.register("m", folder / "m.gcast")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATECAST_CACHE", str(folder / "cache"))
        patch.setenv("GATECAST_WORKSPACE", str(ws.folder))
        LayerCache(cache_folder()).add(
            libraries_key(libraries()), "libraries", [bytes_entry("opt/libraries/x", b"stand-in")]
        )
        assert main(["image", "create", "demo", "--model", "m", "--tag", "use=test"]) == 0
        yield folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Run a command; return its exit status, stdout and stderr."""

    def run(*arguments):
        monkeypatch.chdir(folder)
        capsys.readouterr()
        status = main(["image", *(str(argument) for argument in arguments)])
        return (status, *capsys.readouterr())

    return run


def test_create_shows_the_steps_and_prints_the_id(run, folder, tmp_path):
    base = write_tar(tmp_path / "base.tar")
    status, out, err = run("create", "made", "--model", "m:1", "--base", base, "-o", tmp_path / "x.tar")
    assert (status, out) == (0, "made:1\n")
    lines = err.splitlines()
    assert lines[0] == "Image made:1 [1/5] Base base.tar"
    assert lines[4].startswith("Image made:1 [5/5] Image localhost/made:1 has manifest sha256:")
    assert lines[5].startswith("Made made:1, ")
    assert lines[6].startswith(f"Wrote {tmp_path}/x.tar, ")
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert "oci-layout" in tar.getnames()
    assert run("delete", "made") == (0, "", "Deleted made:1\n")


def test_an_image_without_a_base_is_said_to_be_local(run):
    _, _, err = run("create", "local", "--model", "m")
    assert err.splitlines()[-1] == (
        "It has no base: only services of kind local can run it. `gatecast image base` makes a base."
    )
    run("delete", "local")


def test_create_prints_json(run):
    status, out, _ = run("create", "asjson", "--model", "m", "--json")
    image = json.loads(out)
    assert status == 0
    assert (image["id"], image["state"], image["models"]) == ("asjson:1", "Succeeded", ["m:1"])
    assert (image["location"], image["tags"]) == ("localhost/asjson:1", {})
    run("delete", "asjson")


def test_create_returns_at_once_if_it_is_asked_to(run, folder):
    status, out, _ = run("create", "later", "--model", "m", "--no-wait")
    ws = Workspace.open(folder / "shop")
    operation = ws.operations.get(out.strip())
    assert (status, operation.subject) == (0, "later:1")
    assert ws.operations.wait(operation, timeout=60).state == "Succeeded"
    run("delete", "later")
    status, _, err = run("create", "later", "--model", "m", "--no-wait", "-o", "x.tar")
    assert status == 2
    assert "Option -o must not be given with --no-wait: the image is not made yet." in err


def test_a_failure_shows_the_log_and_what_to_do(run):
    status, out, err = run("create", "bad", "--model", "m", "--target", "tiny")
    assert (status, out) == (1, "")
    assert "error: Image bad:1 failed: Artifact m:1 must be compiled for tiny, not software\n" in err
    assert (
        "hint: Make the image with `--target software`, or of the network it came from. The whole log:" in err
    )
    assert run("show", "bad")[1].splitlines()[1:3] == [
        "state        Failed",
        "error        Artifact m:1 must be compiled for tiny, not software",
    ]
    assert "Failed: Artifact m:1 must be compiled for tiny" in run("log", "bad")[1]
    run("delete", "bad")


def test_list_shows_where_an_image_is_found(run):
    _, out, _ = run("list")
    line = out.splitlines()[2].split()
    assert line[0:2] == ["demo:1", "Succeeded"]
    assert line[-2:] == ["use=test", "localhost/demo:1"]
    assert [image["id"] for image in json.loads(run("list", "demo", "--model", "m", "--json")[1])] == [
        "demo:1"
    ]
    assert run("list", "--tag", "use=other") == (0, "", "No such images\n")
    assert run("list", "nothing")[2] == "No such images\n"


def test_show_has_digest_and_labels(run):
    _, out, _ = run("show", "demo:1")
    assert "digest       sha256:" in out
    assert f"io.gatecast.version={gatecast.__version__}" in out
    shown = json.loads(run("show", "demo", "--json")[1])
    assert shown["labels"]["io.gatecast.model"] == "m:1"
    assert shown["digest"] in out


def test_where_an_image_goes_must_exist_before_it_is_made(run, tmp_path):
    status, out, err = run("create", "lost", "--model", "m", "-o", tmp_path / "no/x.tar")
    assert (status, out) == (1, "")
    assert err.startswith(f"error: Folder {tmp_path}/no must exist, to write the image to\n")
    assert "must be one of the workspace, not lost" in run("show", "lost")[2]


def test_tags_are_changed(run):
    assert run("tag", "demo", "new=1", "--remove", "use")[2] == "demo:1 has tags: new=1\n"
    assert run("tag", "demo", "use=test", "--remove", "new", "--description", "x")[0] == 0
    status, _, err = run("tag", "demo")
    assert status == 2
    assert "Something must change: KEY=VALUE, --remove, --property or --description." in err


def test_properties_are_added_and_stay(run):
    assert run("tag", "demo", "--property", "by=me")[0] == 0
    assert json.loads(run("show", "demo", "--json")[1])["properties"] == {"by": "me"}
    status, _, err = run("tag", "demo", "--property", "by=you")
    assert status == 1
    assert "by" in err and "demo:1" in err


def test_export_writes_the_image_by_its_name(run, tmp_path):
    status, _, err = run("export", "demo", "-o", tmp_path / "x.tar")
    assert status == 0
    assert err.splitlines()[1].endswith(", as localhost/demo:1")
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert json.load(tar.extractfile("manifest.json"))[0]["RepoTags"] == ["localhost/demo:1"]


ERRORS = {
    "an unknown image": (("show", "nothing"), "error: Image must be one of the workspace, not nothing"),
    "an unknown model": (("create", "abc", "--model", "x"), "error: Model must be a registered one, not x"),
    "two models": (
        ("create", "abc", "--model", "m", "--model", "m"),
        "error: Image must hold one model, not 2\nhint: Make an image for each model.",
    ),
    "a wrong name": (("create", "A", "--model", "m"), "error: Name of an image must be 3 to 32 lower-case"),
    "a wrong version": (
        ("delete", "demo:one"),
        "error: Version of an image demo must be a whole number",
    ),
    "no base": (("create", "abc", "--model", "m", "--base", "none"), "error: Base none must be a file"),
    "no folder": (
        ("export", "demo", "-o", "none/x.tar"),
        "error: Image none/x.tar cannot be written",
    ),
}


@pytest.mark.parametrize(("arguments", "what"), ERRORS.values(), ids=ERRORS)
def test_mistakes_are_said_in_two_lines(arguments, what, run):
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert what in err
    assert len([line for line in err.splitlines() if line.startswith(("error:", "hint:"))]) == 2


def test_a_version_must_be_named_to_delete_one_of_many(run, folder):
    run("create", "demo", "--model", "m")
    status, _, err = run("delete", "demo")
    assert status == 1
    assert "error: Version of image demo must be given to delete it: it has 2" in err
    assert run("delete", "demo:2")[0] == 0


def test_a_base_is_made_once(run, folder, tmp_path, monkeypatch):
    if PYTHON not in base_image.SUITES:
        monkeypatch.setitem(base_image.SUITES, PYTHON, "bookworm")
    write_tar(tmp_path / "debian.tar")
    tool = tmp_path / "bin" / "mmdebstrap"
    tool.parent.mkdir()
    copy = f"for file; do case $file in *.tar) cp {tmp_path}/debian.tar $file;; esac; done"
    tool.write_text(f"#!/bin/sh\necho >> {tmp_path}/calls\n{copy}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.setenv("GATECAST_CACHE", str(tmp_path / "cache"))
    status, _, err = run("base")
    assert status == 0
    assert err.splitlines()[-1].startswith("Base debian:")
    shown = json.loads(run("base", "--json")[1])
    assert shown["python"] == f"/usr/bin/python{PYTHON}"
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    run("base", "--refresh")
    assert len((tmp_path / "calls").read_text().splitlines()) == 2
