"""Session: an Artifact opened on a device, which turns named tensors into named tensors."""

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gatecast.artifact import Artifact, ImageStage, ProgramStage
from gatecast.devices import Progress, default_device, open_device
from gatecast.errors import DeviceError, ImageError, RequestError
from gatecast.graph import Interface, OutputPort, Signature

from .images import decode_image
from .plan import ready_stages
from .requests import Image, Request, Tensor
from .stages import ReadyProgramStage, Stage, Values

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RunTime:
    """Where the time of one image went, in microseconds.

    Parameters
    ----------
    image_us : float
        Decoding, resizing and normalising the picture; 0 for tensors.
    host_us : float
        Host stages, packing and unpacking for the device, and waiting for it.
    device_us : float
        Programs on the device.
    reports : mapping of stage name to mapping
        What the device counted in each Program, in its own words; nothing of devices that count nothing.
    """

    image_us: float
    host_us: float
    device_us: float
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def total_us(self) -> float:
        """The whole image."""
        return self.image_us + self.host_us + self.device_us


class Session:
    """An Artifact ready to run; made by `open_session`. Any thread may call `run` at any time.

    A batch of N images is N runs, one after the other. `with` closes it.
    """

    def __init__(
        self, artifact: Artifact, device: str, stages: tuple[Stage, ...], resources: ExitStack, lock: Lock
    ) -> None:
        self._artifact = artifact
        self._device = device
        self._stages = stages
        self._resources = resources
        self._decoders = {s.port: s.preprocessing for s in artifact.stages if isinstance(s, ImageStage)}
        quantized = any(isinstance(stage, ProgramStage) for stage in artifact.stages)
        self._request = Request(artifact.name, artifact.interface.inputs, artifact.shapes, quantized)
        self._lock = lock
        self._closed = False

    @property
    def name(self) -> str:
        """Of the model."""
        return self._artifact.name

    @property
    def artifact(self) -> Artifact:
        """What was opened."""
        return self._artifact

    @property
    def device(self) -> str:
        """Name of the device that runs the Programs."""
        return self._device

    @property
    def interface(self) -> Interface:
        """Ports, layouts, image stages, labels."""
        return self._artifact.interface

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of inputs and outputs."""
        return self._artifact.signature

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the scores; empty if unknown."""
        return self.interface.labels

    @property
    def input_aliases(self) -> dict[str, str]:
        """Name of the input that each value of the network stands for, where the two differ."""
        return {port.value: port.name for port in self.interface.inputs if port.value != port.name}

    @property
    def output_aliases(self) -> dict[str, str]:
        """Name of the output that each alias stands for."""
        return {alias: port.name for port in self.interface.outputs for alias in port.aliases}

    def run(self, inputs: Mapping[str, Tensor], outputs: Iterable[str] | None = None) -> dict[str, Float32]:
        """Run a batch.

        Parameters
        ----------
        inputs : mapping of input name to tensor
            float32 in the source's layout with a leading batch dimension; or, for an input with an image
            stage, a list of encoded pictures (bytes), one for each image.
        outputs : names of outputs, optional
            All of them unless given.

        Returns
        -------
        dict of output name to float32 array
            In the source's layout, batch first.

        Raises
        ------
        RequestError
            The inputs or names do not match the signature, or a value may not be; ImageError for a picture
            that cannot be decoded.
        DeviceError
            The device failed, or the session is closed.
        """
        return self.run_timed(inputs, outputs)[0]

    def run_timed(
        self, inputs: Mapping[str, Tensor], outputs: Iterable[str] | None = None
    ) -> tuple[dict[str, Float32], tuple[RunTime, ...]]:
        """Run a batch as `run` does, and tell for each image where the time went."""
        ports = self._output_ports(outputs)
        images = self._request.images(inputs)
        decoded = [self._decode(image, index) for index, image in enumerate(images)]
        columns: dict[str, list[Float32]] = {port.name: [] for port in ports}
        times = []
        for values, image_us in decoded:
            times.append(self._run_stages(values, image_us))
            for port in ports:
                columns[port.name].append(self._outer(port, values[port.value]))
        return {name: _batch(column) for name, column in columns.items()}, tuple(times)

    def instruction_times(self, inputs: Mapping[str, Tensor]) -> dict[str, npt.NDArray[np.float64]]:
        """Run the first image of a batch, and tell how long each instruction of each Program took.

        Returns
        -------
        dict of stage name to float64 array
            Nanoseconds ``[instructions]`` of the Program's text.

        Raises
        ------
        RequestError, DeviceError
            As `run`; DeviceError too if the device does not tell.
        """
        values, _ = self._decode(self._request.images(inputs)[0], 0)
        found = {}
        for stage in self._stages:
            if isinstance(stage, ReadyProgramStage):
                found[stage.name] = stage.instruction_times(values)
            stage.run(values)
        return found

    def close(self) -> None:
        """Free the device, after a Program in progress. Closing twice is allowed."""
        with self._lock:
            self._closed = True
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _output_ports(self, names: Iterable[str] | None) -> tuple[OutputPort, ...]:
        ports = {port.name: port for port in self.interface.outputs}
        if names is None:
            return self.interface.outputs
        wanted = tuple(names)
        if unknown := [name for name in wanted if name not in ports]:
            raise RequestError(
                f"Outputs of {self.name} must be among {', '.join(ports)}, not {', '.join(unknown)}"
            )
        return tuple(ports[name] for name in dict.fromkeys(wanted))

    def _decode(self, image: Image, index: int) -> tuple[Values, float]:
        """Values that one image's inputs give, and the microseconds that its pictures took."""
        start = time.perf_counter()
        values = {}
        for port in self.interface.inputs:
            data = image[port.name]
            if isinstance(data, bytes):
                try:
                    data = decode_image(data, self._decoders[port.name])
                except ImageError as error:
                    raise ImageError(
                        f"Input {port.name}[{index}] of {self.name}: {error}", error.hint
                    ) from error
            values[port.value] = data
        elapsed = time.perf_counter() - start if self._decoders else 0.0
        return values, elapsed * 1e6

    def _run_stages(self, values: Values, image_us: float) -> RunTime:
        """Run all stages on the values of one image."""
        if self._closed:
            raise DeviceError(f"Session of {self.name} must be open, not closed", "Open the artifact again.")
        start = time.perf_counter()
        uses = [(stage.name, stage.run(values)) for stage in self._stages]
        total_s = time.perf_counter() - start
        device_s = sum(use.seconds for _, use in uses)
        reports = {name: use.report for name, use in uses if use.report}
        return RunTime(image_us, (total_s - device_s) * 1e6, device_s * 1e6, reports)

    def _outer(self, port: OutputPort, value: Float32) -> Float32:
        inner = value.reshape(self._artifact.shapes[port.value])
        return inner.transpose(2, 0, 1) if port.layout == "NCHW" else inner


def _batch(column: list[Float32]) -> Float32:
    """Put images together; a single one is not copied where it need not be."""
    return np.ascontiguousarray(column[0][None]) if len(column) == 1 else np.stack(column)


def open_session(
    source: str | PathLike[str] | Artifact,
    device: str | None = None,
    threads: int | None = None,
    *,
    trace: Path | None = None,
    progress: Progress | None = None,
) -> Session:
    """Open an Artifact, or the file of one, on a device.

    Parameters
    ----------
    source : path or Artifact
    device : str, optional
        Name of an installed device; `gatecast.devices.default_device()` if not given.
    threads : int, optional
        Of each host stage, and of a device that has threads.
    trace, progress : optional
        For the device; see `gatecast.devices.open_device`.

    Raises
    ------
    FileError
        The file is missing, damaged, or of another kind or version.
    DeviceError
        The device is unknown or missing, or cannot run the Programs.
    """
    artifact = source if isinstance(source, Artifact) else Artifact.load(source)
    name = default_device() if device is None else device
    opened, lock = open_device(name, threads=threads, trace=trace, progress=progress), Lock()
    with ExitStack() as resources:
        loaded = {}
        for stage in artifact.stages:
            if isinstance(stage, ProgramStage):
                loaded[stage.name] = opened.load(stage.program)
                resources.callback(loaded[stage.name].close)
        artifact.forget_pages()  # a device has what it needs; now, before the host stages take memory
        stages = tuple(ready_stages(artifact, loaded, lock, threads))
        return Session(artifact, opened.name, stages, resources.pop_all(), lock)
