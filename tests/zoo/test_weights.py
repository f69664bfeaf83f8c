"""Where weights are looked for, in which order, and which digests hold."""

import hashlib
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from gatecast import zoo
from gatecast.errors import DownloadError, FileError
from gatecast.zoo import weights

CONTENT = b"the weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"other weights"


def source(sha256=SHA256, name="a.npz", **options):
    address = options.pop("address", f"https://example.invalid/{name}")
    return zoo.Source(file=name, licence="MIT", publisher="us", sha256=sha256, address=address, **options)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The three folders of the environment, empty, and a record of what would be downloaded."""
    for variable in ("GATECAST_CACHE", "GATECAST_WEIGHTS", "GATECAST_TEST_DATA"):
        folder = tmp_path / variable.removeprefix("GATECAST_").lower()
        folder.mkdir()
        monkeypatch.setenv(variable, str(folder))
    (tmp_path / "cache" / "weights").mkdir()
    return tmp_path


@pytest.fixture
def server(monkeypatch):
    """Stands in for `download`: writes `server["body"]` as any address's content."""
    state = {"body": CONTENT, "asked": []}

    def fetch(address, target, *, sha256, size, limits, progress):
        state["asked"].append((address, sha256))
        digest = hashlib.sha256(state["body"]).hexdigest()
        if not digest.startswith(sha256):
            raise DownloadError(f"{address} must have the SHA-256 {sha256}, not {digest}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(state["body"])
        return digest

    monkeypatch.setattr(weights, "download", fetch)
    return state


def find(*sources):
    return zoo.find_file("weights of x", sources)


def test_the_cache_comes_before_the_folder_before_the_test_data_before_the_network(places, server):
    assert find(source()).place == "download"
    for folder in ("weights", "test_data"):
        (places / folder / "a.npz").write_bytes(CONTENT)
    assert find(source()).place == "cache"
    shutil.rmtree(places / "cache" / "weights")
    assert find(source()) == zoo.Weights(places / "weights" / "a.npz", "folder", source())
    (places / "weights" / "a.npz").unlink()
    assert find(source()).place == "test data"
    (places / "test_data" / "a.npz").unlink()
    assert find(source()).place == "download"
    assert [address for address, _ in server["asked"]] == ["https://example.invalid/a.npz"] * 2


def test_local_file_asks_no_server(places, server):
    assert zoo.local_file([source()]) is None
    assert server["asked"] == []


def test_a_second_source_is_tried_where_the_first_fails(places, server):
    found = find(source("00", "first.npz"), source(SHA256, "second.npz"))
    assert found.source.file == "second.npz"


def test_a_damaged_file_in_the_cache_is_replaced(places, server):
    path = find(source()).path
    path.write_bytes(b"damaged")
    assert find(source()).place == "download"
    assert path.read_bytes() == CONTENT


def test_an_unpublished_digest_is_remembered_and_checked_ever_after(places, server):
    path = find(source("")).path
    assert path.with_name("a.npz.sha256").read_text() == SHA256 + "\n"
    assert find(source("")).place == "cache"
    path.unlink()
    server["body"] = OTHER
    with pytest.raises(DownloadError, match=f"must have the SHA-256 {SHA256}"):
        find(source(""))
    (places / "weights" / "a.npz").write_bytes(OTHER)
    with pytest.raises(FileError, match=f"must have the SHA-256 {SHA256}"):
        find(source(""))


def test_the_whole_digest_is_remembered_where_only_its_start_is_published(places, server):
    find(source(SHA256[:8])).path.unlink()
    find(source(SHA256[:8]))
    assert [sha256 for _, sha256 in server["asked"]] == [SHA256[:8], SHA256]


def test_a_remembered_digest_never_overrules_a_published_one(places, server):
    path = find(source("")).path
    other = hashlib.sha256(OTHER).hexdigest()
    path.write_bytes(OTHER)
    assert find(source(other)).place == "cache"


def test_a_wrong_file_in_a_named_folder_is_an_error_and_stays(places, server):
    (places / "weights" / "a.npz").write_bytes(OTHER)
    with pytest.raises(FileError) as caught:
        find(source())
    other = hashlib.sha256(OTHER).hexdigest()
    assert str(caught.value) == f"{places}/weights/a.npz must have the SHA-256 {SHA256}, not {other}"
    assert (places / "weights" / "a.npz").read_bytes() == OTHER


def test_a_cache_that_cannot_be_used_is_named(places, server, monkeypatch):
    def fail(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(weights, "file_sha256", fail)
    (places / "cache" / "weights" / "a.npz").write_bytes(CONTENT)
    with pytest.raises(FileError, match=r"Cache .*/cache must be readable and writable: .*Permission denied"):
        find(source())


@pytest.mark.parametrize("variable", ["GATECAST_WEIGHTS", "GATECAST_TEST_DATA"])
def test_a_named_folder_must_exist(places, server, monkeypatch, variable):
    monkeypatch.setenv(variable, "/no/such/folder")
    with pytest.raises(FileError) as caught:
        find(source())
    assert str(caught.value) == f"{variable} must name a folder, not /no/such/folder"
    assert caught.value.hint == f"Set {variable} anew, or unset it."


def test_weights_for_tests_only_are_taken_from_test_data_alone(places, server):
    only = source(address="", test_only=True, test_data="deep/b.npz")
    for folder in ("weights", "cache/weights"):
        (places / folder / "a.npz").write_bytes(CONTENT)
    with pytest.raises(DownloadError):
        find(only)
    (places / "test_data" / "deep").mkdir()
    (places / "test_data" / "deep" / "b.npz").write_bytes(CONTENT)
    found = find(only)
    assert found.test_only
    assert found.notice.startswith(f"test only, non-commercial: weights: {places}/test_data/deep/b.npz")


def test_the_current_folder_is_never_searched(places, server, monkeypatch):
    for variable in ("GATECAST_WEIGHTS", "GATECAST_TEST_DATA"):
        monkeypatch.delenv(variable)
    (places / "a.npz").write_bytes(OTHER)
    monkeypatch.chdir(places)
    assert find(source()).place == "download"


def test_the_cache_is_where_xdg_says_unless_named(monkeypatch):
    monkeypatch.setenv("GATECAST_CACHE", "/a")
    assert zoo.cache_folder() == Path("/a")
    monkeypatch.delenv("GATECAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert zoo.cache_folder() == Path("/b/gatecast")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert zoo.cache_folder() == Path("/c/.cache/gatecast")


def test_offline_one_message_names_the_three_ways_out_within_seconds(places, monkeypatch):
    def fail(*args, **options):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    start = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        zoo.load("resnet50")
    assert time.monotonic() - start < 5
    failure = "not reached: the name {} was not found: Temporary failure in name resolution".format
    torchvision, timm = failure("download.pytorch.org"), failure("huggingface.co")
    assert str(caught.value) == (
        "The weights of resnet50 must be at hand or downloadable: "
        f"https://download.pytorch.org/models/resnet50-0676ba61.pth: {torchvision}; "
        f"https://huggingface.co/timm/resnet50.tv_in1k/resolve/main/model.safetensors: {timm}; "
        f"https://download.pytorch.org/models/resnet50-11ad3fa6.pth: {torchvision}"
    )
    assert caught.value.hint == (
        "(1) Put resnet50-0676ba61.pth (SHA-256 begins 0676ba61) or resnet50.tv_in1k.safetensors (SHA-256 "
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888) or resnet50-11ad3fa6.pth (SHA-256 "
        "begins 11ad3fa6) into a folder and name it in GATECAST_WEIGHTS; (2) connect to the network and try "
        f"again: the file is kept in {places}/cache, which GATECAST_CACHE changes; (3) use a network that "
        "needs no download: fashion."
    )


def test_servers_that_never_answer_share_the_time_there_is(places, monkeypatch):
    waits = []

    def fetch(address, target, *, limits, **options):
        waits.append(limits.connect_s)
        raise DownloadError("no")

    monkeypatch.setattr(weights, "download", fetch)
    with pytest.raises(DownloadError):
        find(*(source(name=f"{i}.npz") for i in range(4)))
    assert waits == [3.0] * 4
    assert sum(waits) < 15
