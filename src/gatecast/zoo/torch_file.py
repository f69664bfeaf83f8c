"""PyTorch's files of tensors, read without running what a pickle asks for.

A pickle names functions to call. Here each name is looked up in a table of six entries, none of which does
more than note what the tensor would be; any other name is refused. The numbers are then read from the
file's own storages. Both forms are known: the zip file, and the one before it (a row of pickles, then raw
storages).
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gatecast.errors import FileError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
MAX_PICKLE_BYTES = 64 * 2**20
"""Of the description of the tensors, which is small."""

Array = npt.NDArray[Any]
# bfloat16 is read as its bits; `_values` widens it.
_STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True)
class _StorageKind:
    name: str


@dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Builds records of tensors; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (found := _ALLOWED.get((module, name))) is not None:
            return found
        if module == "torch" and name in _STORAGES:
            return _StorageKind(name)
        raise FileError(
            f"Tensor file must hold plain tensors only, not a pickle that calls {module}.{name}",
            hint="Save the state_dict of the network, or use safetensors or .npz.",
        )

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageKind(name=kind), str(key), str(), int(count), *_) if count >= 0:
                return _Storage(kind, key, count)
        raise FileError("Tensor file must name its storages, not something else")


def _tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor


_ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


def read_torch_zip(archive: zipfile.ZipFile) -> dict[str, Array]:
    """Return the tensors of a file that torch.save wrote (1.6 and later).

    Raises
    ------
    FileError
        The file holds anything but named plain tensors, or is damaged.
    """
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise FileError("Zip file must hold .npy arrays or one data.pkl, as NumPy and PyTorch write them")
    root = pickles[0].removesuffix("data.pkl")
    if archive.getinfo(pickles[0]).file_size > MAX_PICKLE_BYTES:
        raise FileError(f"Description of the tensors must have at most {MAX_PICKLE_BYTES} bytes")
    if root + "byteorder" in archive.namelist() and archive.read(root + "byteorder") != b"little":
        raise FileError("Tensor file must be little-endian")
    tensors = _named(_Unpickler(BytesIO(archive.read(pickles[0]))).load())
    keys = {tensor.storage.key for tensor in tensors.values()}
    storages = {key: archive.read(f"{root}data/{key}") for key in sorted(keys)}
    return {name: _values(name, tensor, storages) for name, tensor in tensors.items()}


def is_legacy_torch(start: bytes) -> bool:
    """Whether a file that starts with these bytes is of the form before the zip file."""
    return start.startswith(pickle.dumps(LEGACY_MAGIC, protocol=2)[:-1])


def read_legacy_torch(file: BinaryIO) -> dict[str, Array]:
    """Return the tensors of a file that torch.save wrote before 1.6; errors as in `read_torch_zip`."""
    data = BytesIO(file.read())
    magic, protocol, system = (_Unpickler(data).load() for _ in range(3))
    if magic != LEGACY_MAGIC or protocol != _LEGACY_PROTOCOL or not system.get("little_endian"):
        raise FileError("Tensor file must be PyTorch's little-endian form of protocol 1001")
    tensors = _named(_Unpickler(data).load())
    kinds = {tensor.storage.key: tensor.storage.kind for tensor in tensors.values()}
    storages = {}
    for key in _Unpickler(data).load():
        if key not in kinds:
            raise FileError("Tensor file must hold only storages that its tensors use")
        count = int.from_bytes(data.read(8), "little")
        size = count * _STORAGES[kinds[key]].itemsize
        storages[key] = data.read(size)
    return {name: _values(name, tensor, storages) for name, tensor in tensors.items()}


def _named(content: Any) -> dict[str, _Tensor]:
    """Return the tensors of a state_dict, or of a checkpoint's one; names lose what DataParallel prefixes."""
    if isinstance(content, Mapping) and isinstance(inner := content.get("state_dict"), Mapping):
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise FileError("Tensor file must hold a mapping of names to tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise FileError(f"Entry {name!r} of a tensor file must be a tensor, not {type(value).__name__}")
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): value for name, value in content.items()}


def _values(name: str, tensor: _Tensor, storages: Mapping[str, bytes]) -> Array:
    """Return one tensor's values, copied out of its storage; all bounds are checked."""
    storage = np.frombuffer(storages[tensor.storage.key], _STORAGES[tensor.storage.kind])
    size, stride = tensor.size, tensor.stride
    spans = [(count - 1) * step for count, step in zip(size, stride, strict=True)]
    count = 0 if 0 in size else int(np.prod(size, dtype=object))
    fits = all(n >= 0 for n in _flat(size, stride, (tensor.offset,))) and count <= storage.size
    if not fits or (count and tensor.offset + sum(spans) >= storage.size):
        raise FileError(f"Tensor {name} must lie inside its storage of {storage.size} values")
    strides = [step * storage.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], size, strides, writeable=False)
    if tensor.storage.kind == "BFloat16Storage":
        return (view.astype(np.uint32) << 16).view(np.float32)
    return np.array(view)


def _flat(*groups: tuple[int, ...]) -> Iterator[int]:
    for group in groups:
        yield from group
