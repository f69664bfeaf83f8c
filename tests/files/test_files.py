import os
from pathlib import Path

import pytest

from gatecast.errors import FileError
from gatecast.files import replace_file, write_synced, write_whole


def test_parts_become_one_file_and_nothing_else_stays(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    write_whole(path, [b"one", memoryview(b"two")])
    assert path.read_bytes() == b"onetwo"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_failure_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def parts():
        yield b"new"
        raise OSError(28, "No space left on device")

    with pytest.raises(
        FileError, match=r"Artifact .*a.bin cannot be written: No space left on device"
    ) as caught:
        write_whole(path, parts(), "Artifact")
    assert "has room" in caught.value.hint
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]


def test_another_error_leaves_nothing_behind_either(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_whole(tmp_path / "a.bin", (bytes([1 // n]) for n in (1, 0)))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileError, match=r"File .*no/a.bin cannot be written: No such file or directory"):
        write_whole(tmp_path / "no" / "a.bin", [b""])


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, [b"one", b"two"])
        assert os.read(reader, 10) == b"onetwo"
    finally:
        os.close(reader)
    assert pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    file, link = tmp_path / "folder" / "a.bin", tmp_path / "link"
    file.write_bytes(b"old")
    link.symlink_to(file)
    write_whole(link, [b"new"])
    assert link.is_symlink() and file.read_bytes() == b"new"
    assert os.listdir(file.parent) == ["a.bin"]


@pytest.mark.parametrize("name", ["", "."])
def test_a_folder_is_no_file_to_write(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=r"File \. cannot be written: Is a directory"):
        write_whole(Path(name), [b""])
    assert os.listdir(tmp_path) == []


def test_a_new_file_is_never_written_over(tmp_path):
    write_synced(tmp_path / "new", [b"one", memoryview(b"two")])
    with pytest.raises(FileExistsError):
        write_synced(tmp_path / "new", [b"three"])
    assert (tmp_path / "new").read_bytes() == b"onetwo"


def test_two_writers_of_one_path_do_not_meet(tmp_path):
    def slowly():
        yield b"first"
        replace_file(tmp_path / "file", [b"second"])
        assert (tmp_path / "file").read_bytes() == b"second"

    replace_file(tmp_path / "file", slowly())
    assert (tmp_path / "file").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]
