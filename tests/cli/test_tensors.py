from pathlib import Path

import numpy as np
import pytest

from gatecast.cli.tensors import read_input, write_outputs
from gatecast.errors import FileError


def test_an_array_is_read(tmp_path):
    x = np.random.default_rng(0).standard_normal((2, 3), np.float32)
    np.save(tmp_path / "x.npy", x)
    assert np.array_equal(read_input(tmp_path / "x.npy"), x)


def test_any_other_file_is_a_picture(tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    assert read_input(tmp_path / "x.png") == b"\x89PNG"


@pytest.mark.parametrize("keep", [0, 6, 20, 100, 140])
def test_a_truncated_array_is_refused(tmp_path, keep):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((2, 3), np.float32))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileError, match=f"^Input {path} must be a whole .npy array of numbers, but: "):
        read_input(path)


@pytest.mark.parametrize("shape", ["(10**12,)", "(1000000000000,)", "((((", "(-1,)", "(1,", "'"])
def test_an_array_whose_header_lies_is_refused(tmp_path, shape):
    path = tmp_path / "x.npy"
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64))
    with pytest.raises(FileError, match="must be a whole .npy array of numbers, but: "):
        read_input(path)


def test_python_objects_are_not_unpickled(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(FileError, match="must be a whole .npy array of numbers"):
        read_input(path)


def test_an_archive_is_no_array(tmp_path):
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(FileError, match="must be an .npy array, not an .npz archive"):
        read_input(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError) as caught:
        read_input(tmp_path / "x.npy")
    assert str(caught.value) == f"Input {tmp_path / 'x.npy'} cannot be read: No such file or directory"


def test_a_picture_may_have_64_mib_and_no_more(tmp_path):
    path = tmp_path / "x.png"
    with path.open("wb") as file:
        file.truncate(64 * 2**20)
    assert len(read_input(path)) == 64 * 2**20
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(FileError) as caught:
        read_input(path)
    assert str(caught.value) == f"Picture {path} must have at most 67108864 bytes, not more"
    assert caught.value.hint == "Give a JPEG or PNG file; a tensor must be an .npy file."


def test_a_device_without_end_is_not_read_to_its_end():
    with pytest.raises(FileError, match="^Picture /dev/zero must have at most 67108864 bytes, not more$"):
        read_input(Path("/dev/zero"))


def test_an_array_may_have_2_gib_and_no_more(tmp_path):
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        file.truncate(2 * 2**30 + 1)  # sparse: takes no room
    with pytest.raises(FileError) as caught:
        read_input(path)
    assert str(caught.value) == f"Array {path} must have at most 2147483648 bytes, not 2147483649"
    assert caught.value.hint == "Split it along its batch dimension."


def test_a_folder_is_told(tmp_path):
    with pytest.raises(FileError, match=f"^Input {tmp_path} cannot be read: Is a directory$"):
        read_input(tmp_path)


def test_outputs_are_keyed_by_name_whatever_it_is(tmp_path):
    names = ("probabilities", "a/b/Softmax:0", "file", "ü")
    outputs = {name: np.full((1, i + 1), i, np.float32) for i, name in enumerate(names)}
    write_outputs(tmp_path / "y.npz", outputs)
    with np.load(tmp_path / "y.npz") as found:
        assert set(found.files) == set(names)
        for name, values in outputs.items():
            assert np.array_equal(found[name], values)
