"""Files of named arrays: NumPy's .npz, safetensors, and PyTorch's; told apart by their first bytes."""

import json
import lzma
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import FileError

from .torch_file import is_legacy_torch, read_legacy_torch, read_torch_zip

MAX_BYTES = 2**31
"""Of all arrays of one file, unpacked."""

MAX_HEADER_BYTES = 16 * 2**20
"""Of the JSON header of a safetensors file."""

Float32 = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
_SAFETENSORS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_KINDS = "Give a file of weights; `gatecast zoo show NAME` lists those that suit a network."
# What the libraries below raise for damaged files. A size that no memory holds is damage too.
_READING_ERRORS = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError),
    *(TypeError, UserWarning, ValueError, lzma.LZMAError, pickle.UnpicklingError, struct.error),
    *(zipfile.BadZipFile, zlib.error),
)


def read_tensors(path: Path) -> dict[str, Float32]:
    """Return the floating-point arrays of a file as float32, by name. Arrays of integers are left out.

    No code in the file is run.

    Raises
    ------
    FileError
        The file is missing, of no known kind, damaged, or unpacks to more than `MAX_BYTES`.
    """
    try:
        with path.open("rb") as file:
            arrays = _read(path, file.read(16))
    except FileNotFoundError as error:
        raise FileError(f"File {path} must exist", hint="Check the path.") from error
    except IsADirectoryError as error:
        raise FileError(f"{path} must be a file of arrays, not a folder", hint=_KINDS) from error
    except FileError as error:
        raise FileError(f"{path}: {error}", hint=error.hint) from error
    except _READING_ERRORS as error:
        raise FileError(f"{path} must be a whole file of arrays, but reading it failed: {error}") from error
    return {
        name: np.asarray(array, np.float32, order="C")
        for name, array in arrays.items()
        if np.issubdtype(array.dtype, np.floating)
    }


def _read(path: Path, start: bytes) -> dict[str, Array]:
    if start.startswith(b"PK"):
        return _read_zip(path)
    with path.open("rb") as file:
        if is_legacy_torch(start):
            return read_legacy_torch(file)
        if start[8:9] == b"{":
            return _read_safetensors(file.read())
    raise FileError("File must be .npz, safetensors, or a state_dict that PyTorch saved", hint=_KINDS)


def _read_zip(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
        if size > MAX_BYTES:
            raise FileError(f"Arrays must have at most {MAX_BYTES} bytes unpacked, not {size}")
        names = archive.namelist()
        if not all(name.endswith(".npy") for name in names):
            return read_torch_zip(archive)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_safetensors(data: bytes) -> dict[str, Array]:
    size = int.from_bytes(data[:8], "little")
    if size > min(MAX_HEADER_BYTES, len(data) - 8):
        raise FileError(f"Header of a safetensors file must lie inside it, not have {size} bytes")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {name: _safetensor(name, entry, data[8 + size :]) for name, entry in header.items()}


def _safetensor(name: str, entry: dict[str, Any], body: bytes) -> Array:
    if entry["dtype"] not in _SAFETENSORS:
        raise FileError(f"Tensor {name} must be of a known type, not {entry['dtype']}")
    dtype, (start, stop) = _SAFETENSORS[entry["dtype"]], entry["data_offsets"]
    count = int(np.prod(entry["shape"], dtype=object))
    if not 0 <= start <= stop <= len(body) or stop - start != count * dtype.itemsize:
        raise FileError(f"Tensor {name} must lie inside the file and have the size of its shape")
    array: Array = np.frombuffer(body, dtype, count, start).reshape(entry["shape"])
    return (array.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else array
