import errno
import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gatecast.errors import FileError
from gatecast.workspace.blobs import digest_of
from gatecast.workspace.layer_cache import LayerCache, cache_folder
from gatecast.workspace.layers import bytes_entry

ENTRIES = [bytes_entry("a", b"content")]


@pytest.fixture
def cache(tmp_path):
    return LayerCache(tmp_path / "not" / "there yet")


def test_a_layer_is_kept_with_its_facts(cache):
    made = cache.add("key", "base", ENTRIES, {"python": "/usr/bin/python3"})
    assert digest_of(made.path) == made.layer.digest
    assert made.path.stat().st_size == made.layer.size
    assert cache.get("key") == made
    assert cache.get("another") is None


def test_a_layer_replaces_the_one_before(cache):
    first = cache.add("key", "base", ENTRIES)
    second = cache.add("key", "base", [*ENTRIES, bytes_entry("b", b"")])
    assert cache.get("key") == second
    assert first.layer != second.layer


@pytest.mark.parametrize("suffix", ["tar.gz", "json"])
@pytest.mark.parametrize("damage", [b"", b"other", None])
def test_a_damaged_layer_is_not_taken(suffix, damage, cache):
    cache.add("key", "base", ENTRIES)
    path = cache.folder / f"key.{suffix}"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert cache.get("key") is None


@pytest.mark.parametrize("change", [{"layer": {}}, {"layer": 1}, {"facts": None, "layer": {"kind": 1}}])
def test_a_description_of_another_form_is_not_taken(change, cache):
    cache.add("key", "base", ENTRIES)
    (cache.folder / "key.json").write_text(json.dumps(change))
    assert cache.get("key") is None


def test_what_is_unused_is_old_and_not_kept_and_never_younger_than_an_hour(cache):
    for key in ("kept", "new", "old"):
        cache.add(key, "base", ENTRIES)
    for path in cache.folder.glob("*old*"):
        os.utime(path, (time.time() - 3700,) * 2)
    now = datetime.now(UTC)
    assert [path.name for path in cache.unused(now, ["kept"])] == ["old.json", "old.tar.gz"]
    assert cache.unused(now, ["kept", "old"]) == []
    assert cache.unused(now - timedelta(hours=2), []) == []
    assert cache.get("old") is not None  # it is taken now
    assert cache.unused(now, []) == []


def test_a_layer_that_fails_leaves_nothing(cache):
    with pytest.raises(FileError, match="must stay as it is"):
        cache.add("key", "base", [replace(ENTRIES[0], size=1)])
    assert list(cache.folder.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(cache, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match="Layer base cannot be kept in .*: No space left on device") as error:
        cache.add("key", "base", ENTRIES)
    assert "GATECAST_CACHE" in error.value.hint
    assert list(cache.folder.iterdir()) == []


def test_a_folder_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="Layer base cannot be kept in"):
        LayerCache(tmp_path / "file").add("key", "base", ENTRIES)


def test_the_folder_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GATECAST_CACHE", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a" / "layers"
    monkeypatch.delenv("GATECAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b" / "gatecast" / "layers"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c" / ".cache" / "gatecast" / "layers"
