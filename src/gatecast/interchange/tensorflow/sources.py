"""TensorFlow models on the disk: SavedModels of either version, and frozen graphs, as one frozen GraphDef."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from gatecast.errors import FileError, NotFoundError, UnsupportedError

from .nodes import whole

v1 = tf.compat.v1

_DEFAULT = "serving_default"
_TAG = "serve"
LARGEST_FILE = (1 << 31) - 1
MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")


@dataclass(frozen=True)
class Source:
    """A graph and what its signature calls its tensors.

    Parameters
    ----------
    name : str
        Of the network.
    path : Path
        For messages.
    graph_def : GraphDef
        Variables may still be in it; `variables` reads them.
    inputs, outputs : mapping of signature key to tensor name
        Empty where there is no signature.
    known : mapping of tensor name to tensor name
        Names that the file has for tensors which the graph calls otherwise.
    checkpoint : Path, optional
        Prefix of the files that hold the variables, where the graph has any.
    """

    name: str
    path: Path
    graph_def: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    known: Mapping[str, str] = field(default_factory=dict)
    checkpoint: Path | None = None


def read_source(path: Path) -> Source:
    """Read a SavedModel folder or a frozen graph; FileError if it is missing, damaged or another thing."""
    if path.is_dir():
        return _read_saved_model(path)
    graph_def = v1.GraphDef()
    _parse(path, graph_def)
    if not graph_def.node:
        raise FileError(f"File {path} must be a frozen TensorFlow graph; it holds no nodes")
    return Source(path.stem, path, graph_def, {}, {})


def _parse(path: Path, message: Any) -> None:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise FileError(f"File {path} must be smaller than 2 GiB, not {size} bytes")
        if path.suffix == ".pbtxt":
            text_format.Parse(path.read_text(encoding="utf-8"), message)
        else:
            message.ParseFromString(path.read_bytes())
    except OSError as error:
        raise FileError(
            f"File {path} must be readable: {error.strerror or error}", hint="Check the path."
        ) from error
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise FileError(
            f"File {path} must be a TensorFlow model, whole and unchanged; it cannot be read"
        ) from error


def _read_saved_model(folder: Path) -> Source:
    file = next((folder / name for name in MODEL_FILES if (folder / name).is_file()), None)
    if file is None:
        raise FileError(
            f"Folder {folder} must be a SavedModel; it holds no {MODEL_FILES[0]}", hint="Check the path."
        )
    saved = saved_model_pb2.SavedModel()
    _parse(file, saved)
    meta = _meta_graph(saved, folder)
    key, signature = _signature(meta, folder)
    inputs = {name: info.name for name, info in sorted(signature.inputs.items())} if signature else {}
    outputs = {name: info.name for name, info in sorted(signature.outputs.items())} if signature else {}
    if meta.HasField("object_graph_def") and key:
        return _from_functions(folder, key, inputs, outputs)
    checkpoint = folder / "variables" / "variables"
    return Source(folder.name, folder, meta.graph_def, inputs, outputs, checkpoint=checkpoint)


def _meta_graph(saved: Any, folder: Path) -> Any:
    graphs = [meta for meta in saved.meta_graphs if _TAG in meta.meta_info_def.tags] or saved.meta_graphs
    if len(graphs) != 1 or not graphs[0].graph_def.node:
        raise FileError(f"SavedModel {folder} must hold one graph with the tag {_TAG!r}, not {len(graphs)}")
    return graphs[0]


def _signature(meta: Any, folder: Path) -> tuple[str, Any]:
    """Key and definition of the signature to serve; an empty key if there is none."""
    known = {key: s for key, s in meta.signature_def.items() if s.outputs and not key.startswith("__")}
    if _DEFAULT in known or not known:
        return (_DEFAULT, known[_DEFAULT]) if known else ("", None)
    if len(known) > 1:
        raise NotFoundError(
            f"SavedModel {folder} must have one signature, or one called {_DEFAULT}, not {', '.join(known)}"
        )
    return next(iter(known.items()))


def _from_functions(folder: Path, key: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Source:
    """A SavedModel of TensorFlow 2: its signature's function, with all it calls in one graph.

    The tensors that the file names are those of a wrapper around that function.
    """
    if not tf.executing_eagerly():
        raise UnsupportedError(
            f"SavedModel {folder} is of TensorFlow 2 and cannot be read after tf.disable_v2_behavior()",
            hint="Read it in a process of its own, for example by `gatecast quantize`.",
        )
    try:
        loaded = tf.saved_model.load(str(folder))  # holds the variables: it must outlive the next line
        frozen = convert_variables_to_constants_v2(loaded.signatures[key], aggressive_inlining=True)
    except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
        raise FileError(f"SavedModel {folder} must be whole: {' '.join(str(error).split())[:300]}") from error
    found = {tensor.name.partition(":")[0]: tensor.name for tensor in frozen.inputs}
    made = dict(zip(sorted(outputs), (tensor.name for tensor in frozen.outputs), strict=True))
    if set(found) != set(inputs):
        listed = ", ".join(found) or "none"
        raise FileError(
            f"Inputs of {folder} must be those of its signature, {', '.join(inputs)}, not {listed}"
        )
    known = {whole(inputs[name]): found[name] for name in inputs}
    known |= {whole(outputs[name]): made[name] for name in outputs}
    return Source(folder.name, folder, frozen.graph.as_graph_def(), found, made, known)
