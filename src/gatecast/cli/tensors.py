"""Files that become inputs, and outputs that become files."""

import os
import tokenize
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gatecast.errors import FileError
from gatecast.files import write_whole

LARGEST_PICTURE = 64 * 2**20
"""Bytes of an encoded picture."""

LARGEST_ARRAY = 2 * 2**30
"""Bytes of an .npy file."""

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
        The file cannot be read, is larger than `LARGEST_PICTURE` or `LARGEST_ARRAY`, or is an .npy file that
        is damaged or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_NPY))
            if start != _NPY and path.suffix != ".npy":
                return start + _picture(path, file, len(start))
            _check_array(path, os.fstat(file.fileno()).st_size)
            file.seek(0)
            return _array(path, file)
    except OSError as error:
        raise FileError(f"Input {path} cannot be read: {error.strerror}", hint="Check the path.") from error


def read_picture(path: Path) -> bytes:
    """Return the bytes of a file; FileError if it cannot be read, or is larger than `LARGEST_PICTURE`."""
    try:
        with path.open("rb") as file:
            return _picture(path, file)
    except OSError as error:
        raise FileError(f"Picture {path} cannot be read: {error.strerror}", hint="Check the path.") from error


def _picture(path: Path, file: BinaryIO, already: int = 0) -> bytes:
    """Return the rest of a file of which some bytes have been read already."""
    most = LARGEST_PICTURE - already
    data = file.read(most + 1)
    if len(data) > most:
        raise FileError(
            f"Picture {path} must have at most {LARGEST_PICTURE} bytes, not more",
            hint="Give a JPEG or PNG file; a tensor must be an .npy file.",
        )
    return data


def _check_array(path: Path, size: int) -> None:
    if size > LARGEST_ARRAY:
        raise FileError(
            f"Array {path} must have at most {LARGEST_ARRAY} bytes, not {size}",
            hint="Split it along its batch dimension.",
        )


def _array(path: Path, file: BinaryIO) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
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
