"""Any network file: ONNX is read here, TensorFlow by the package of that name, loaded when it is needed."""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gatecast.errors import FileError, UnsupportedError
from gatecast.graph import Graph

from .onnx_file import load as load_onnx

_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
_FROZEN = (".pb", ".pbtxt")


def load(
    path: str | os.PathLike[str],
    inputs: str | Sequence[str] | None = None,
    outputs: str | Sequence[str] | None = None,
) -> Graph:
    """Read a network from an ONNX file, a TensorFlow SavedModel folder or a frozen TensorFlow graph (.pb).

    A folder may also hold one ONNX file, or one numbered folder with a SavedModel.

    Parameters
    ----------
    inputs, outputs : str or list of str, optional
        Names of tensors that the network begins and ends with, several as a list or with commas between;
        without them, the file's. Outputs also answer to other spellings, by the rules of `match_name`.

    Raises
    ------
    FileError
        The file is missing, truncated, corrupt, or another thing; or its data files are.
    NotFoundError
        A tensor is not there; those that are are listed.
    UnsupportedError
        It holds nodes that Gatecast has no layer for: all are listed. Or TensorFlow is not installed.
    """
    path = _entered(Path(path))
    if is_tensorflow(path):
        graph: Graph = _tensorflow().load(path, inputs, outputs)
        return graph
    return load_onnx(_only_file(path), inputs=listed(inputs), outputs=listed(outputs))


def is_tensorflow(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a TensorFlow model, by its name and those of the files in it."""
    path = _entered(Path(path))
    if path.is_dir():
        return _is_saved_model(path)
    return path.suffix in _FROZEN


def _is_saved_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED_MODEL)


def _entered(path: Path) -> Path:
    """Return the SavedModel's folder where its file is named, or its one version as servers keep them."""
    if path.name in _SAVED_MODEL and path.is_file():
        return path.parent
    if path.is_dir() and not _is_saved_model(path):
        versions = [inner for inner in path.iterdir() if inner.name.isdigit() and _is_saved_model(inner)]
        if len(versions) == 1:
            return versions[0]
    return path


def _only_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.onnx"))
    if len(files) != 1:
        raise FileError(
            f"Folder {path} must hold a SavedModel or one ONNX file, not {len(files)} ONNX files",
            hint="Name the file itself.",
        )
    return files[0]


def _tensorflow() -> Any:
    """Return the package that reads TensorFlow models."""
    missing = [name for name in ("tensorflow", "tf2onnx") if find_spec(name) is None]
    if missing:
        raise UnsupportedError(
            f"TensorFlow models need {' and '.join(missing)}, which is not installed",
            hint="Install the extra: pip install 'gatecast[tensorflow]'.",
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no chatter about the processor on stderr
    # It converts here: it need not announce how fast it could compute.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    return import_module("gatecast.interchange.tensorflow")


def listed(names: str | Sequence[str] | None) -> list[str] | None:
    """Return names as a list: one, several with commas between, or a list already; None stays None."""
    if names is None:
        return None
    parts = names.split(",") if isinstance(names, str) else [str(name) for name in names]
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))
