"""ONNX files: read with limits, data files beside them included; written whole or not at all."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from gatecast.errors import FileError
from gatecast.files import write_whole
from gatecast.graph import Graph

from .exporter import to_onnx
from .importer import from_onnx
from .selection import select, with_aliases

LARGEST_FILE = (1 << 31) - 1
"""Most bytes of a protobuf message, and so of a model in one file."""


def load(
    path: str | os.PathLike[str],
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> Graph:
    """Read a network from an ONNX file.

    Parameters
    ----------
    inputs, outputs : sequence of str, optional
        Tensors that the network begins and ends with; without them, the file's. An output may be any tensor;
        it also answers to the name that is given here, by the rules of `match_name`.

    Raises
    ------
    NotFoundError
        A tensor is not in the file, or the inputs are not those that the outputs need.
    FileError
        The file is missing, truncated, corrupt, or no ONNX; or its data files are.
    UnsupportedError
        It holds nodes that Gatecast has no layer for; all are listed.
    """
    path = Path(path)
    model = _parse(path, _read(path))
    if inputs is not None or outputs is not None:
        model = select(model, inputs, outputs)
    _read_external(model, path)
    graph = from_onnx(model)
    return graph if outputs is None else with_aliases(graph, outputs)


def _read(path: Path) -> bytes:
    try:
        if path.is_char_device():
            raise FileError(f"File {path} must be a file, not a device, which has no end")
        if path.stat().st_size > LARGEST_FILE:
            raise FileError(f"File {path} must be smaller than 2 GiB, not {path.stat().st_size} bytes")
        return path.read_bytes()
    except OSError as error:
        raise FileError(
            f"File {path} must be readable: {error.strerror or error}", hint="Check the path."
        ) from error


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise FileError(
            f"File {path} must be an ONNX model, whole and unchanged; it cannot be read"
        ) from error
    if not model.opset_import or not model.HasField("graph"):
        raise FileError(f"File {path} must be an ONNX model; it holds no graph")
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _read_external(model: onnx.ModelProto, path: Path) -> None:
    """Bring data from beside the file into the model; nothing outside the file's folder is read."""
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = _external_bytes(tensor, path)
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]


def _external_bytes(tensor: TensorProto, path: Path) -> bytes:
    where = f"Data of tensor {tensor.name} in {path.name}"
    try:
        info = {entry.key: entry.value for entry in tensor.external_data}
        location = info.get("location", "")
        offset, length = int(info.get("offset") or 0), int(info.get("length") or 0)
        folder = path.parent.resolve()
        # Text that is not UTF-8 comes as bytes.
        file = (folder / location).resolve() if isinstance(location, str) else folder.parent
        if not location or not file.is_relative_to(folder):
            raise FileError(f"{where} must lie in the model's folder, not at {location!r}")
        size = int(file.stat().st_size)
        length = length or size - offset
        if offset < 0 or length < 0 or offset + length > size or length > LARGEST_FILE:
            raise FileError(f"{where} must lie inside {file.name}: {length} bytes at {offset} of {size}")
        with file.open("rb") as stream:
            stream.seek(offset)
            data: bytes = stream.read(length)
        return data
    except (OSError, ValueError) as error:
        raise FileError(
            f"{where} must be readable: {error}", hint="Copy the model together with its data files."
        ) from error


def export(graph: Graph, path: str | os.PathLike[str], inline: bool = False) -> None:
    """Write `graph` as standard ONNX; the file appears whole or not at all.

    Parameters
    ----------
    inline : bool
        Write Encode as plain nodes, for OpenVINO.

    Raises
    ------
    FileError
        The file cannot be written.
    """
    write_whole(Path(path), [to_onnx(graph, inline).SerializeToString(deterministic=True)])
