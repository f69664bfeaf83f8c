import gzip
import hashlib
import io
import os
import tarfile
from dataclasses import dataclass, replace

import pytest

from gatecast.errors import FileError
from gatecast.workspace.layers import (
    Entry,
    bytes_entry,
    check_path,
    epoch,
    file_entry,
    gzip_parts,
    tar_parts,
    write_layer,
)


@dataclass
class Kept:
    data: bytes

    @property
    def digest(self):
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def size(self):
        return len(self.data)


def written(entries):
    """A layer, and its compressed bytes."""
    parts = []

    def keep(stream):
        parts.extend(stream)
        return Kept(b"".join(parts))

    return write_layer("model", entries, keep), b"".join(parts)


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getmembers()


ENTRIES = [
    bytes_entry("b/two", b"22"),
    bytes_entry("a", b""),
    Entry("b/link", "link", 0o777, target="two"),
    bytes_entry("b-c", b"x" * 1500),
    Entry("b", "folder", 0o1777),
]


def test_a_layer_names_its_compressed_bytes_and_the_tar_in_them():
    layer, data = written(ENTRIES)
    plain = gzip.decompress(data)
    assert layer.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    assert layer.size == len(data)
    assert plain == b"".join(tar_parts(ENTRIES))
    assert len(plain) % tarfile.RECORDSIZE == 0


def test_members_are_sorted_a_folder_before_what_is_in_it():
    found = members(b"".join(tar_parts(ENTRIES)))
    assert [member.name for member in found] == ["a", "b", "b/link", "b/two", "b-c"]
    assert [member.mode for member in found] == [0o644, 0o1777, 0o777, 0o644, 0o644]
    assert found[2].linkname == "two"


def test_the_order_in_which_entries_come_does_not_matter():
    assert written(ENTRIES) == written(ENTRIES[::-1])


def test_folders_above_an_entry_are_added_once():
    found = members(b"".join(tar_parts([bytes_entry("a/b/c", b""), bytes_entry("a/d", b"")])))
    assert [(member.name, member.isdir()) for member in found] == [
        ("a", True),
        ("a/b", True),
        ("a/b/c", False),
        ("a/d", False),
    ]
    assert found[0].mode == 0o755


def test_owner_time_and_mode_are_not_those_of_this_machine(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"data")
    os.utime(source, (12345, 12345))
    source.chmod(0o600)
    plain, _ = written([file_entry("x", source)])
    source.chmod(0o444)
    os.utime(source, (99999, 99999))
    assert written([file_entry("x", source)])[0] == plain
    source.chmod(0o755)
    assert written([file_entry("x", source)])[0] != plain
    (member,) = members(b"".join(tar_parts([file_entry("x", source)])))
    assert (member.uid, member.gid, member.uname, member.gname, member.mtime, member.mode) == (
        *(0, 0, "", "", 0),
        0o755,
    )


def test_source_date_epoch_is_the_time_of_everything(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert epoch() == 0
    before, _ = written(ENTRIES)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    found = members(b"".join(tar_parts(ENTRIES)))
    assert {member.mtime for member in found} == {1700000000}
    assert written(ENTRIES)[0].diff_id != before.diff_id


@pytest.mark.parametrize("text", ["", "-1", "1.5", "yesterday", "٣", "123456789012"])
def test_a_source_date_epoch_that_is_no_count_is_refused(text, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(FileError, match="SOURCE_DATE_EPOCH must be a count of seconds, not"):
        epoch()


def test_gzip_has_no_name_and_no_time_and_standard_tools_read_it():
    data = b"".join(gzip_parts([b"one", b"", b"two" * 100_000], lambda part: None))
    assert data[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    assert gzip.decompress(data) == b"one" + b"two" * 100_000


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 10240 - 512, 10240])
def test_contents_of_any_size_are_padded_to_whole_blocks(size):
    plain = b"".join(tar_parts([bytes_entry("x", bytes(range(256)) * (size // 256) + bytes(size % 256))]))
    assert len(plain) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        assert len(tar.extractfile("x").read()) == size


def test_long_and_foreign_names_survive():
    names = ["ü/" + "long" * 60, "plain", "x" * 101 + "/y"]
    found = members(b"".join(tar_parts([bytes_entry(name, b"1") for name in names])))
    assert {member.name for member in found if member.isreg()} == set(names)


BAD = ["/etc/passwd", "../up", "a/../../b", "a//b", "a/./b", "", ".", "a\0b"]


@pytest.mark.parametrize("path", BAD)
def test_a_path_that_could_leave_the_image_is_refused(path):
    with pytest.raises(FileError, match="must stay inside the image|must come once and have a name"):
        list(tar_parts([bytes_entry(path, b"")]))


@pytest.mark.parametrize("path", [".wh.passwd", "etc/.wh..wh..opq"])
def test_a_mark_of_a_deleted_file_is_refused(path):
    with pytest.raises(FileError, match="Member of x.tar must not be a mark of a deleted file"):
        check_path(path, "x.tar")


def test_check_path_takes_the_dot_in_front_away():
    assert [check_path(path, "x") for path in ("./a/b", "a/b/", "./", ".", "..a/b..")] == [
        *("a/b", "a/b", "", "", "..a/b.."),
    ]


def test_a_path_that_comes_twice_is_refused():
    with pytest.raises(FileError, match="Path of a layer must come once and have a name, not 'a'"):
        list(tar_parts([bytes_entry("a", b"1"), bytes_entry("a", b"2")]))


@pytest.mark.parametrize("above", [bytes_entry("a", b""), Entry("a", "link", target="/etc")])
def test_an_entry_under_a_file_or_a_link_is_refused(above):
    with pytest.raises(FileError, match="Path 'a/b' of a layer must lie in a folder, not under the file a"):
        list(tar_parts([above, bytes_entry("a/b", b"")]))


@pytest.mark.parametrize("size", [3, 5])
def test_a_file_that_changes_while_it_is_copied_is_refused(size):
    entry = replace(bytes_entry("x", b"four"), size=size)
    with pytest.raises(FileError, match="File x must stay as it is while it is copied into a layer"):
        list(tar_parts([entry]))
