"""The served models and their versions: where they are, in which state, and which one a request means."""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from gatecast.errors import FileError, GatecastError
from gatecast.graph import Signature
from gatecast.serving.refusal import Code, RefusalError

logger = logging.getLogger(__name__)


class Session(Protocol):
    """What is needed of an opened artifact (`gatecast.runtime.Session` has it)."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs, in order."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class labels in the order of the scores; empty if unknown."""

    @property
    def output_aliases(self) -> Mapping[str, str]:
        """Other names of outputs, and the names they stand for."""

    def run(
        self, inputs: Mapping[str, npt.NDArray[Any] | Sequence[bytes]], outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the named outputs (all by default); RequestError for the caller's mistakes."""

    def close(self) -> None:
        """Free what it holds."""


# Runs of one session at a time: while one has the device, the next has its picture decoded.
RUNNING = 4

OpenSession = Callable[[Path], Session]


class State(IntEnum):
    """Where a version is in its life; the numbers are TensorFlow Serving's."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class ModelSource:
    """One model to serve.

    Parameters
    ----------
    name : str
        As requests name it.
    path : Path
        An artifact, which becomes version 1, or a folder with one subfolder for each version: its name is
        the version's number, and it holds one ``.gcast`` file.
    versions : str
        ``latest`` loads the version with the largest number, ``all`` loads every version.
    labels : mapping of str to int
        Other names of versions, such as ``stable``; these versions are loaded too.
    """

    name: str
    path: Path
    versions: Literal["latest", "all"] = "latest"
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class ModelVersion:
    """One version of one model. Each run of its session takes one of `turns`."""

    name: str
    number: int
    path: Path
    state: State = State.START
    error: GatecastError | None = None
    session: Session | None = None
    turns: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(RUNNING))

    def load(self, open_session: OpenSession) -> None:
        """Open the session; on failure the version ends, with its error."""
        self.state = State.LOADING
        try:
            self.session = open_session(self.path)
        except GatecastError as error:
            self.error, self.state = error, State.END
        else:
            self.state = State.AVAILABLE

    def unload(self) -> None:
        """Wait for the runs in flight, then close the session."""
        session = self.session
        if session is None:
            return
        self.state = State.UNLOADING
        for _ in range(RUNNING):
            self.turns.acquire()
        self.session = None
        session.close()
        self.turns.release(RUNNING)
        self.state = State.END


class Models:
    """All served models.

    Parameters
    ----------
    sources : sequence of ModelSource
        Which models; each name once.
    open_session : callable
        Opens the artifact at a path.

    Raises
    ------
    FileError
        A path holds no artifact, or not the version that a label names.
    """

    def __init__(self, sources: Sequence[ModelSource], open_session: OpenSession) -> None:
        self._sources = tuple(sources)
        self._open_session = open_session
        self._labels: dict[str, dict[str, int]] = {}
        self._versions = {
            source.name: {
                number: ModelVersion(source.name, number, path)
                for number, path in find_versions(source).items()
            }
            for source in sources
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(self._versions)

    def load(self) -> None:
        """Load every version, then assign the labels of the sources.

        Raises
        ------
        GatecastError
            No version of a model, or not one that a label names, could be loaded; what was loaded before
            stays.
        """
        for versions in self._versions.values():
            for version in versions.values():
                version.load(self._open_session)
            failed = [version for version in versions.values() if version.error]
            fatal = failed.pop() if len(failed) == len(versions) else None
            for version in failed:
                logger.error(
                    "Model %s version %d could not be loaded: %s", version.name, version.number, version.error
                )
            if fatal and fatal.error:
                raise fatal.error
        for source in self._sources:
            for label, number in source.labels.items():
                self.assign_label(source.name, label, number)

    def unload(self) -> None:
        """Unload every version."""
        for name in self.names:
            for version in self.versions(name):
                version.unload()

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all known versions of a model, newest first; none for an unknown model."""
        known = self._versions.get(name, {})
        return [known[number] for number in sorted(known, reverse=True)]

    def assign_label(self, name: str, label: str, number: int) -> None:
        """Let requests ask for a version by a label, such as ``stable``."""
        version = self._versions.get(name, {}).get(number)
        if version is None or version.state is not State.AVAILABLE:
            raise RefusalError(
                Code.FAILED_PRECONDITION,
                f"Request to assign label to version {number} of model {name}, "
                "which is not currently available for inference",
                hint="A label needs a version that is loaded; the log says why one is not.",
            )
        self._labels.setdefault(name, {})[label] = number

    def find(self, name: str, number: int | None = None, label: str | None = None) -> ModelVersion:
        """Return the available version that a request means: the newest, or by number or label.

        Number 0 means the newest where there is no version 0: some clients send it for "any".

        Raises
        ------
        RefusalError
            There is none.
        """
        if label is not None:
            number = self._labels.get(name, {}).get(label)
            if number is None:
                raise RefusalError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
        newest_first = [version for version in self.versions(name) if version.state is State.AVAILABLE]
        if number == 0 and not any(version.number == 0 for version in newest_first):
            number = None
        for version in newest_first:
            if number in (None, version.number):
                return version
        wanted = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        raise RefusalError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")


def find_versions(source: ModelSource) -> dict[int, Path]:
    """Return the artifacts of the versions to load, by number.

    Raises
    ------
    FileError
        There is none, a label names no version, two folders stand for one version, or the folder of a
        version does not hold exactly one artifact.
    """
    path = source.path
    if path.is_file():
        _check_labels(source, [1])
        return {1: path}
    if not path.is_dir():
        raise FileError(
            f"Model {source.name} must be a .gcast file or a folder of versions, but {path} is absent",
            hint="Check the path.",
        )
    folders = _folders(source)
    if not folders:
        raise FileError(
            f"{path} must hold a folder for each version of model {source.name}, such as 1, but holds none",
            hint=f"Put the artifact at {path / '1' / 'model.gcast'}, or name the .gcast file itself.",
        )
    _check_labels(source, folders)
    numbers = sorted(folders) if source.versions == "all" else sorted({max(folders), *source.labels.values()})
    return {number: _only_artifact(folders[number]) for number in numbers}


def _folders(source: ModelSource) -> dict[int, Path]:
    folders: dict[int, Path] = {}
    for entry in sorted(source.path.iterdir()):
        if not (entry.is_dir() and entry.name.isdecimal()):
            continue
        first = folders.setdefault(int(entry.name), entry)
        if first is not entry:
            raise FileError(
                f"{source.path} must hold one folder for version {int(entry.name)} of model {source.name}, "
                f"not {first.name} and {entry.name}",
                hint="Rename one of them, or take it away.",
            )
    return folders


def _check_labels(source: ModelSource, numbers: Collection[int]) -> None:
    for label, number in source.labels.items():
        if number not in numbers:
            known = ", ".join(str(known) for known in sorted(numbers))
            raise FileError(
                f"Label {label} of model {source.name} must name a version in {source.path}, not {number}",
                hint=f"Versions there: {known}.",
            )


def _only_artifact(folder: Path) -> Path:
    artifacts = sorted(folder.glob("*.gcast"))
    if len(artifacts) != 1:
        raise FileError(
            f"{folder} must hold one .gcast file, not {len(artifacts)}",
            hint="Each version's folder holds one artifact, made by `gatecast compile`.",
        )
    return artifacts[0]
