"""A compiled model: ordered stages and what they need to be served. Ref: docs/spec/artifact.md."""

import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatecast.errors import FileError
from gatecast.files import write_whole
from gatecast.graph import Interface, Shape, Signature

from .container import Buffer, read_container, write_container
from .manifest import parse_manifest, write_manifest
from .stages import HostStage, ImageStage, LayerReport, ProgramStage, Stage


@dataclass(frozen=True)
class Artifact:
    """A model as a server loads it.

    Parameters
    ----------
    name : str
    stages : tuple of ImageStage, HostStage or ProgramStage
        In the order in which they run.
    interface : Interface
        Ports, layouts, image preprocessing, labels.
    signature : Signature
        What the outside sees.
    shapes : mapping of str to tuple of int
        Inner shape (one image, NHWC) of each value that a port, or an input or output of a stage, names.
    formats : str
        ``bfp8``, ``bfp5/bfp6``, … or ``float32``.
    target : str
        Name of the Architecture.
    layers : tuple of LayerReport
        In the order of the graph.
    provenance : mapping
        Plain data: producer, source and its digest. No time, so that the same network gives the same file.

    Raises
    ------
    FileError
        A stage reads a value that none before it makes, a port of a Program is not its stage's, an output is
        never made, or a shape is missing.
    """

    name: str
    stages: tuple[Stage, ...]
    interface: Interface
    signature: Signature
    shapes: Mapping[str, Shape]
    formats: str
    target: str
    layers: tuple[LayerReport, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        made = {port.value for port in self.interface.inputs}
        for stage in self.stages:
            self._check_stage(stage, made)
            made.update(stage.outputs)
        wanted = {port.value for port in self.interface.outputs}
        if missing := sorted(wanted - made):
            raise FileError(f"Outputs of {self.name} must be made by a stage: {', '.join(missing)}")
        if missing := sorted((made | wanted) - set(self.shapes)):
            raise FileError(f"Values of {self.name} must have a shape: {', '.join(missing)}")

    def _check_stage(self, stage: Stage, made: set[str]) -> None:
        label = stage.port if isinstance(stage, ImageStage) else stage.name
        if missing := [name for name in stage.inputs if name not in made]:
            raise FileError(
                f"Stage {label} of {self.name} must read earlier values, not {', '.join(missing)}"
            )
        if isinstance(stage, ProgramStage):
            for side in ("inputs", "outputs"):
                ports = tuple(port.name for port in getattr(stage.program, side))
                if ports != getattr(stage, side):
                    raise FileError(
                        f"Ports of stage {label} of {self.name} must be its {side}, not {', '.join(ports)}"
                    )

    def forget_pages(self) -> None:
        """Give back the memory of a mapped file's pages; what is read again comes from the file again."""
        buffers = [stage.program.weights for stage in self.stages if isinstance(stage, ProgramStage)]
        for mapped in {memoryview(buffer).obj for buffer in buffers}:
            if isinstance(mapped, mmap.mmap):
                mapped.madvise(mmap.MADV_DONTNEED)

    def to_bytes(self) -> bytes:
        """Return the file's bytes, the same each time."""
        return b"".join(self._parts())

    def _parts(self) -> Iterator[Buffer]:
        sections: dict[str, Buffer] = {"manifest": write_manifest(vars(self))}
        for number, stage in enumerate(self.stages):
            if isinstance(stage, HostStage):
                sections[f"stage {number}"] = stage.model
            elif isinstance(stage, ProgramStage):
                sections[f"stage {number}"] = stage.program.to_bytes()
        return write_container(sections)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file whole or not at all; an old one stays until the new one is on the disk.

        Raises
        ------
        FileError
            It cannot be written there.
        """
        write_whole(Path(path), self._parts(), "Artifact")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Artifact":
        """Map a file and check every byte of it; weights stay in the map and are not copied.

        Raises
        ------
        FileError
            The file is missing, truncated, damaged, of another kind or of a newer version; the section that
            is wrong is named.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if size else b""
        except OSError as error:
            raise FileError(
                f"Artifact {path} cannot be read: {error.strerror}", hint="Check the path."
            ) from error
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: Buffer, where: str = "the artifact") -> "Artifact":
        """Read the bytes of a file; parts of the result are views of `data`. Errors are those of `load`."""
        sections = read_container(memoryview(data).toreadonly(), where)
        return cls(**parse_manifest(sections, where))
