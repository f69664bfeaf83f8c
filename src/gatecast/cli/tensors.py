"""Files that become inputs, and outputs that become files."""

import tokenize
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import FileError
from gatecast.files import write_whole

_NPY = b"\x93NUMPY"

# What `numpy.load` raises for a damaged file; MemoryError where the header tells of far too many values.
_NOT_AN_ARRAY = (
    ValueError,
    EOFError,
    OSError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)


def read_input(path: Path) -> bytes | npt.NDArray[Any]:
    """Return the array of an .npy file, or the bytes of any other file: an encoded picture.

    Raises
    ------
    FileError
        The file cannot be read, or is an .npy file that is damaged or holds Python objects.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"Input {path} cannot be read: {error.strerror}", hint="Check the path.") from error
    if not data.startswith(_NPY) and path.suffix != ".npy":
        return data
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except _NOT_AN_ARRAY as error:
        raise FileError(
            f"Input {path} must be a whole .npy array of numbers, but: {error}",
            hint="Write it with `numpy.save`.",
        ) from error
    if not isinstance(array, np.ndarray):
        raise FileError(f"Input {path} must be an .npy array, not an .npz archive")
    return array


def write_outputs(path: Path, outputs: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Write an .npz archive whose keys are the names of the outputs, whatever characters they hold."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, values in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(values), allow_pickle=False)
    write_whole(path, [content.getbuffer()])
