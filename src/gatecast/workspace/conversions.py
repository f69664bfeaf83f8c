"""Conversions: from a registered model to a quantised one, in the background."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import PurePosixPath

from gatecast.errors import FileError, WorkspaceError
from gatecast.numerics import parse_formats

from .labels import LONGEST_NAME
from .models import Model, Models
from .operations import Operation, Operations
from .store import Store

KIND = "convert"


class SourceKind(StrEnum):
    """What a model to be converted is."""

    ONNX = "ONNX network"
    SAVED_MODEL = "TensorFlow SavedModel"
    FROZEN_GRAPH = "frozen TensorFlow graph"


class Conversions:
    """The conversions of a workspace; each is an `Operation` of kind ``convert``."""

    def __init__(self, store: Store, models: Models, operations: Operations) -> None:
        self._store = store
        self._models = models
        self._operations = operations

    def start(
        self,
        model: Model | str,
        *,
        inputs: str | Sequence[str] | None = None,
        outputs: str | Sequence[str] | None = None,
        format: str = "bfp8",
        require_acceleration: bool = True,
    ) -> Operation:
        """Begin to convert a model and return at once.

        The result is a model ``<name>.<version>.accelonnx`` whose one file, ``<name>.onnx``, is the quantised
        network as standard ONNX. Its parent is the source; its properties are ``format``, ``inputs``,
        ``outputs`` and ``tool_version``.

        Parameters
        ----------
        model : Model or str
            An ONNX file (or a folder with one), a TensorFlow SavedModel, or a frozen graph; or its id.
        inputs, outputs : str or sequence of str, optional
            Tensors, also joined by commas; without them, all that the network has.
        format : str
            As in ``bfp8`` or ``bfp5/bfp6``.
        require_acceleration : bool
            Fail if the network has no layer that a device accelerates.

        Raises
        ------
        NotFoundError, WorkspaceError, FormatError, FileError
            The model is unknown; a name is no name; there is no such format; the model is nothing that can be
            converted.
        """
        source = self._models.find(model if isinstance(model, str) else model.id)
        if len(result_name(source)) > LONGEST_NAME:
            raise WorkspaceError(
                f"Name of the result must have at most {LONGEST_NAME} characters, but {result_name(source)} "
                f"has {len(result_name(source))}",
                hint="Register the model under a shorter name.",
            )
        find_network(source)
        request = {
            "model": source.id,
            "inputs": tensor_names(inputs, "Inputs"),
            "outputs": tensor_names(outputs, "Outputs"),
            "format": str(parse_formats(format)),
            "require_acceleration": require_acceleration,
        }
        return self._operations.start(KIND, source.id, request)

    def list(self) -> list[Operation]:
        """Return the conversions, the newest first."""
        return self._operations.list(KIND)

    def result(self, operation: Operation) -> Model:
        """Return the model that a conversion made; WorkspaceError if it did not succeed."""
        if operation.result is None:
            raise WorkspaceError(
                f"Conversion of {operation.subject} must have succeeded, but is {operation.state}",
                hint=f"See its log {operation.log}.",
            )
        return self._models.find(operation.result)


def result_name(model: Model) -> str:
    """Return the name of what a model is converted to."""
    return f"{model.name}.{model.version}.accelonnx"


def tensor_names(names: str | Sequence[str] | None, what: str) -> list[str] | None:
    """Return names given as one text with commas, or as a sequence of such texts; None and none are None."""
    if names is None:
        return None
    texts = [names] if isinstance(names, str) else list(names)
    if not all(isinstance(text, str) for text in texts):
        raise WorkspaceError(f"{what} must be names of tensors, not {names!r}")
    found = [name.strip() for text in texts for name in text.split(",")] if texts else []
    if not all(found):
        raise WorkspaceError(
            f"{what} must be names of tensors with commas between them, not {names!r}",
            hint="An empty name is none: look for two commas side by side.",
        )
    return found or None


def find_network(model: Model) -> tuple[SourceKind, PurePosixPath]:
    """Return what a model is, and the file or folder in it to be read, ``.`` for the model itself.

    FileError if it is nothing that can be converted.
    """
    if not model.is_folder:
        return _kind_of_file(model), PurePosixPath(".")
    paths = [PurePosixPath(file.path) for file in model.files]
    saved = [path.parent for path in paths if path.name in ("saved_model.pb", "saved_model.pbtxt")]
    networks = [path for path in paths if path.suffix.lower() == ".onnx"]
    frozen = [path for path in paths if path.suffix.lower() == ".pb"]
    for kind, found in (
        (SourceKind.SAVED_MODEL, saved),
        (SourceKind.ONNX, networks),
        (SourceKind.FROZEN_GRAPH, frozen),
    ):
        if len(found) > 1:
            raise FileError(
                f"Model {model.id} must hold one network, not {len(found)}: {', '.join(map(str, found[:6]))}",
                hint="Register the one to be converted by itself.",
            )
        if found:
            return kind, found[0]
    raise _unknown(model)


def _kind_of_file(model: Model) -> SourceKind:
    suffix = PurePosixPath(model.file_name).suffix.lower()
    if suffix == ".gcast":
        raise FileError(
            f"Model {model.id} must be a network, not an artifact, which is compiled already",
            hint="Register the network that it was compiled from, and convert that.",
        )
    if suffix == ".onnx":
        return SourceKind.ONNX
    if suffix == ".pb":
        return SourceKind.FROZEN_GRAPH
    raise _unknown(model)


def _unknown(model: Model) -> FileError:
    return FileError(
        f"Model {model.id} must be an ONNX file, a TensorFlow SavedModel or a frozen graph (.pb), "
        f"not {model.file_name}",
        hint="Export the network as ONNX, and register that file with its ending .onnx.",
    )
