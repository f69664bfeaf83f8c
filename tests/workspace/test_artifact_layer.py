import hashlib
import io
import tarfile

import pytest
from tests.workspace.root_files import member

from gatecast.errors import FileError
from gatecast.workspace import artifact_layer
from gatecast.workspace.artifact_layer import artifact_entry, model_folder, unpack_artifact

DATA = b"an artifact" * 1000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def unpacked(tmp_path):
    """Write a layer of these members and unpack it."""

    def unpacked(*members, digest=DIGEST):
        with tarfile.open(tmp_path / "layer", "w:gz") as tar:
            for info, data in members:
                tar.addfile(info, io.BytesIO(data))
        unpack_artifact(tmp_path / "layer", tmp_path / "out", digest)
        return tmp_path / "out"

    return unpacked


def test_an_artifact_lies_where_the_server_looks_for_version_one(tmp_path):
    (tmp_path / "x").write_bytes(DATA)
    entry = artifact_entry("resnet50", tmp_path / "x")
    assert entry.path == "model/resnet50/1/resnet50.gcast"
    assert model_folder("resnet50") == "model/resnet50"


def test_the_one_artifact_comes_out_read_only(unpacked):
    found = unpacked(member("model", tarfile.DIRTYPE), member("model/x.gcast", data=DATA))
    assert found.read_bytes() == DATA
    assert found.stat().st_mode & 0o777 == 0o444


def test_no_name_in_a_layer_is_used(unpacked, tmp_path):
    found = unpacked(member("../../../escape.gcast", data=DATA, mode=0o4777))
    assert found == tmp_path / "out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer", "out"]


HOSTILE = {
    "nothing": ([], "one .gcast file, not 0 members"),
    "two": ([member("a.gcast", data=DATA), member("b.gcast", data=DATA)], "one .gcast file, not 2"),
    "a link": ([member("a.gcast", tarfile.SYMTYPE, linkname="/etc/passwd")], "one .gcast file"),
    "another name": ([member("a.gcast", tarfile.LNKTYPE, linkname="/etc/passwd")], "one .gcast file"),
    "a device": ([member("a.gcast", tarfile.CHRTYPE)], "one .gcast file"),
    "a file beside it": ([member("a.gcast", data=DATA), member("etc/passwd", data=b"x")], "one .gcast"),
    "another artifact": ([member("a.gcast", data=b"other")], "the artifact sha256:"),
}


@pytest.mark.parametrize(("members", "what"), HOSTILE.values(), ids=HOSTILE)
def test_another_layer_is_refused_and_leaves_nothing(members, what, unpacked, tmp_path):
    with pytest.raises(FileError, match=f"Layer of a model must hold {what}"):
        unpacked(*members)
    assert not (tmp_path / "out").exists()


def test_too_large_an_artifact_is_refused(unpacked, monkeypatch):
    monkeypatch.setattr(artifact_layer, "LARGEST", 10)
    with pytest.raises(FileError, match="an artifact of at most 10 bytes, not 11000"):
        unpacked(member("a.gcast", data=DATA))


def test_a_layer_that_is_cut_is_refused(unpacked, tmp_path):
    unpacked(member("a.gcast", data=DATA)).unlink()
    whole = (tmp_path / "layer").read_bytes()
    for length in (0, 1, 20, len(whole) // 2):
        (tmp_path / "layer").write_bytes(whole[:length])
        with pytest.raises(FileError, match="Layer of a model must hold"):
            unpack_artifact(tmp_path / "layer", tmp_path / f"out{length}", DIGEST)
