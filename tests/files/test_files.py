import os

import pytest

from gatecast.errors import FileError
from gatecast.files import write_whole


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
