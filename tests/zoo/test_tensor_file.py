"""Files of arrays: what PyTorch, NumPy and safetensors write is read; what they must not do is refused."""

import builtins
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from gatecast.errors import FileError
from gatecast.zoo import read_tensors, tensor_file, torch_file

RANDOM = np.random.default_rng(17)
STATE = {
    "conv1.weight": RANDOM.normal(size=(4, 3, 2, 2)).astype(np.float32),
    "bn1.running_mean": RANDOM.normal(size=4).astype(np.float32),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
}


def torch_state():
    return OrderedDict((name, torch.from_numpy(array.copy())) for name, array in STATE.items())


def assert_is_state(arrays):
    assert sorted(arrays) == sorted(STATE)
    for name, array in arrays.items():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert np.array_equal(array, STATE[name]), name
        assert array.shape == STATE[name].shape


def safetensors_bytes(header, body=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize("zipped", [True, False])
class TestTorch:
    """Both of PyTorch's forms: the zip file, and the one before it."""

    def save(self, content, path, zipped):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        return path

    def test_a_state_dict_is_read(self, tmp_path, zipped):
        assert_is_state(read_tensors(self.save(torch_state(), tmp_path / "a.pth", zipped)))

    def test_a_checkpoint_around_it_and_the_prefix_of_data_parallel_are_taken_off(self, tmp_path, zipped):
        state = {"module." + name: tensor for name, tensor in torch_state().items()}
        content = {"state_dict": state, "epoch": 3, "best": 91.5}
        assert_is_state(read_tensors(self.save(content, tmp_path / "a.pth", zipped)))

    def test_parameters_and_a_modules_own_state_are_read(self, tmp_path, zipped):
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        arrays = read_tensors(self.save(module.state_dict(), tmp_path / "a.pth", zipped))
        assert "1.num_batches_tracked" not in arrays
        assert np.array_equal(arrays["0.weight"], module[0].weight.detach().numpy())
        parameters = {"weight": module[0].weight}
        arrays = read_tensors(self.save(parameters, tmp_path / "b.pth", zipped))
        assert np.array_equal(arrays["weight"], module[0].weight.detach().numpy())

    def test_views_with_offsets_and_strides_are_read_as_they_look(self, tmp_path, zipped):
        base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
        views = {"t": base.permute(2, 0, 1), "s": base[1:, ::2, 3], "one": base[2, 3, 4], "all": base}
        arrays = read_tensors(self.save(views, tmp_path / "a.pth", zipped))
        for name, view in views.items():
            assert np.array_equal(arrays[name], view.numpy()), name

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_floats_become_float32(self, tmp_path, zipped, dtype):
        tensor = torch.linspace(-3, 3, 37).to(dtype)
        arrays = read_tensors(self.save({"x": tensor}, tmp_path / "a.pth", zipped))
        assert np.array_equal(arrays["x"], tensor.to(torch.float32).numpy())

    def test_a_whole_module_is_refused_by_the_name_it_calls(self, tmp_path, zipped):
        path = self.save(torch.nn.Linear(2, 2), tmp_path / "a.pth", zipped)
        with pytest.raises(FileError) as caught:
            read_tensors(path)
        assert str(caught.value) == (
            f"{path}: Tensor file must hold plain tensors only, not a pickle that calls "
            "torch.nn.modules.linear.Linear"
        )
        assert caught.value.hint == "Save the state_dict of the network, or use safetensors or .npz."

    def test_a_pickle_that_would_run_a_command_is_refused_and_runs_nothing(self, tmp_path, zipped):
        mark = tmp_path / "mark"

        class Attack:
            def __reduce__(self):
                return (os.system, (f"touch {mark}",))

        for content in ({"x": Attack()}, Attack(), {"state_dict": {"x": Attack()}}):
            path = self.save(content, tmp_path / "a.pth", zipped)
            with pytest.raises(FileError, match=r"not a pickle that calls (posix|os)\.system"):
                read_tensors(path)
        assert not mark.exists()

    @pytest.mark.parametrize("content", [{}, [1, 2], {"a": 5}, {3: torch.zeros(1)}, "text"])
    def test_other_content_is_refused(self, tmp_path, zipped, content):
        with pytest.raises(FileError, match=r"must (hold a mapping|be a tensor)"):
            read_tensors(self.save(content, tmp_path / "a.pth", zipped))

    def test_damaged_files_raise_file_errors_only(self, tmp_path, zipped):
        data = self.save(torch_state(), tmp_path / "a.pth", zipped).read_bytes()
        random = np.random.default_rng(5)
        path = tmp_path / "b.pth"
        for _ in range(300):
            damaged = bytearray(data[: random.integers(1, len(data))] if random.random() < 0.3 else data)
            for position in random.integers(0, len(damaged), 3):
                damaged[position] = random.integers(256)
            path.write_bytes(damaged)
            try:
                read_tensors(path)
            except FileError as error:
                assert str(error).startswith(str(path))


def zip_with_pickle(path, pickled, storages=None, byteorder=b"little"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/byteorder", byteorder)
        for key, body in (storages or {}).items():
            archive.writestr(f"a/data/{key}", body)
    return path


_STORAGE = object()


class _Persistent(pickle.Pickler):
    """Writes what PyTorch would for one tensor, with any bounds."""

    def persistent_id(self, value):
        return ("storage", torch.FloatStorage, "0", "cpu", 4) if value is _STORAGE else None


class _Rebuilt:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return (torch._utils._rebuild_tensor_v2, (_STORAGE, *self.arguments, False, OrderedDict()))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (1, (2, 2), (2, 1)), (-1, (2,), (1,)), (0, (-2,), (1,)), (0, (2,), (-1,)),
     (0, (10**9, 10**9), (0, 0)), (0, (2,), (2**62,)), (5, (), ()), (0, (2**31, 2**33), (0, 0))],
)  # fmt: skip
def test_a_tensor_outside_its_storage_is_refused(tmp_path, offset, size, stride):
    stream = io.BytesIO()
    _Persistent(stream, protocol=2).dump({"x": _Rebuilt(offset, size, stride)})
    path = zip_with_pickle(tmp_path / "a.pth", stream.getvalue(), {"0": bytes(16)})
    with pytest.raises(FileError, match=r"Tensor x must lie inside its storage of 4 values"):
        read_tensors(path)


def test_a_big_endian_file_is_refused(tmp_path):
    path = zip_with_pickle(tmp_path / "a.pth", pickle.dumps({}), byteorder=b"big")
    with pytest.raises(FileError, match="must be little-endian"):
        read_tensors(path)


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__"])
def test_builtins_are_refused(tmp_path, name):
    path = zip_with_pickle(tmp_path / "a.pth", pickle.dumps({"x": getattr(builtins, name)}, protocol=2))
    with pytest.raises(FileError, match=rf"not a pickle that calls \w+\.{name}"):
        read_tensors(path)


def test_a_description_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "MAX_PICKLE_BYTES", 10)
    path = zip_with_pickle(tmp_path / "a.pth", pickle.dumps({"x": "long enough"}))
    with pytest.raises(FileError, match="must have at most 10 bytes"):
        read_tensors(path)


class TestNumpy:
    def test_arrays_are_read_and_integers_left_out(self, tmp_path):
        np.savez(tmp_path / "a.npz", **STATE, count=np.arange(3))
        assert_is_state(read_tensors(tmp_path / "a.npz"))

    def test_compressed_halves_become_float32(self, tmp_path):
        half = RANDOM.normal(size=(3, 3)).astype(np.float16)
        np.savez_compressed(tmp_path / "a.npz", x=half)
        assert np.array_equal(read_tensors(tmp_path / "a.npz")["x"], half.astype(np.float32))

    def test_pickled_objects_are_refused(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], object))
        with pytest.raises(
            FileError, match="must be a whole file of arrays, but reading it failed: Object arrays"
        ):
            read_tensors(tmp_path / "a.npz")

    def test_a_file_that_unpacks_beyond_the_limit_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tensor_file, "MAX_BYTES", 1000)
        np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1000, np.float32))
        with pytest.raises(FileError, match="must have at most 1000 bytes unpacked, not 4128"):
            read_tensors(tmp_path / "a.npz")

    def test_damaged_files_raise_file_errors_only(self, tmp_path):
        np.savez(tmp_path / "a.npz", **STATE)
        data = (tmp_path / "a.npz").read_bytes()
        random = np.random.default_rng(6)
        for _ in range(200):
            damaged = bytearray(data)
            for position in random.integers(0, len(data), 3):
                damaged[position] = random.integers(256)
            (tmp_path / "b.npz").write_bytes(damaged)
            try:
                read_tensors(tmp_path / "b.npz")
            except FileError:
                pass


class TestSafetensors:
    def test_arrays_of_all_floats_are_read(self, tmp_path):
        values = np.array([1.5, -2.0, 0.25], np.float32)
        parts = {
            "F32": values.tobytes(),
            "F16": values.astype(np.float16).tobytes(),
            "F64": values.astype(np.float64).tobytes(),
            "BF16": (values.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
            "I64": np.arange(3).tobytes(),
        }
        header, body = {"__metadata__": {"format": "pt"}}, b""
        for kind, part in parts.items():
            header[kind] = {
                "dtype": kind,
                "shape": [3, 1],
                "data_offsets": [len(body), len(body) + len(part)],
            }
            body += part
        (tmp_path / "a.safetensors").write_bytes(safetensors_bytes(header, body))
        arrays = read_tensors(tmp_path / "a.safetensors")
        assert sorted(arrays) == ["BF16", "F16", "F32", "F64"]
        assert all(np.array_equal(array, values[:, None]) for array in arrays.values())

    @pytest.mark.parametrize(
        ("entry", "text"),
        [
            ({"dtype": "F32", "shape": [2], "data_offsets": [0, 12]}, "have the size of its shape"),
            ({"dtype": "F32", "shape": [3], "data_offsets": [4, 16]}, "must lie inside the file"),
            ({"dtype": "F32", "shape": [-3], "data_offsets": [12, 0]}, "must lie inside the file"),
            ({"dtype": "F7", "shape": [3], "data_offsets": [0, 12]}, "must be of a known type, not F7"),
            ({"dtype": "F32"}, "reading it failed"),
            (5, "reading it failed"),
        ],
    )
    def test_entries_that_cannot_be_are_refused(self, tmp_path, entry, text):
        (tmp_path / "a.safetensors").write_bytes(safetensors_bytes({"x": entry}, bytes(12)))
        with pytest.raises(FileError, match=text):
            read_tensors(tmp_path / "a.safetensors")

    def test_a_header_longer_than_the_file_is_refused(self, tmp_path):
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}" + bytes(20))
        with pytest.raises(FileError, match="must lie inside it, not have 1099511627776 bytes"):
            read_tensors(tmp_path / "a.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=rf"File {tmp_path}/none must exist"):
        read_tensors(tmp_path / "none")


@pytest.mark.parametrize("data", [b"", b"hello world, no arrays here", b"PK\x03\x04", bytes(100)])
def test_other_files_are_refused(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FileError, match=str(tmp_path / "a")):
        read_tensors(tmp_path / "a")


def test_the_published_cifar_network_is_read_as_torch_reads_it(test_data):
    path = test_data / "weights" / "resnet20_cifar10-12fca82f.th"
    theirs = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    arrays = read_tensors(path)
    assert len(arrays) == len(theirs)
    assert all(np.array_equal(arrays[name.removeprefix("module.")], t.numpy()) for name, t in theirs.items())


@pytest.fixture
def test_data():
    if not (folder := os.environ.get("GATECAST_TEST_DATA")):
        pytest.skip("GATECAST_TEST_DATA is not set: no published weights to read")
    return Path(folder)


def test_reading_needs_no_torch(tmp_path):
    torch.save(torch_state(), tmp_path / "a.pth")
    program = """
        import sys
        from pathlib import Path
        from gatecast import zoo
        assert len(zoo.read_tensors(Path(sys.argv[1]))) == 4
        assert not {"torch", "tensorflow", "onnx"} & set(sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "a.pth")]
    subprocess.run(command, check=True, timeout=60)
