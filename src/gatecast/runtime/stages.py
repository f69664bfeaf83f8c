"""Stages of an Artifact made ready to run: each reads and writes named values of one image.

The only module of this package that knows ONNX Runtime.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

# Official builds of ONNX Runtime report to their maker unless told not to before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from gatecast.artifact import HostStage, ProgramStage
from gatecast.devices import Device, LoadedProgram, device_report
from gatecast.errors import DeviceError, FileError
from gatecast.isa import pack_inputs, unpack_outputs

Float32 = npt.NDArray[np.float32]
Values = dict[str, Float32]

MOST_THREADS = 2
"""Threads of a host stage unless told otherwise: such stages are short, and a server runs beside them."""

# Classes that ONNX Runtime raises, none of which is a subclass of another.
_ERRORS = (
    states.EPFail,
    states.EngineError,
    states.Fail,
    states.InvalidArgument,
    states.InvalidGraph,
    states.InvalidProtobuf,
    states.ModelLoadCanceled,
    states.NoModel,
    states.NoSuchFile,
    states.NotFound,
    states.NotImplemented,
    states.RuntimeException,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class DeviceUse:
    """What a stage asked of a device: seconds, and what the device counted meanwhile."""

    seconds: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)


class Stage(Protocol):
    """One stage, ready to run."""

    @property
    def name(self) -> str:
        """Of the stage in its Artifact."""
        ...

    def run(self, values: Values) -> DeviceUse:
        """Add this stage's outputs to the values of one image."""
        ...


@dataclass(frozen=True)
class ReadyHostStage:
    """An ONNX model on ONNX Runtime."""

    stage: HostStage
    session: Any
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.stage.name

    def run(self, values: Values) -> DeviceUse:
        """Compute on the host; a device takes no time. DeviceError if ONNX Runtime fails."""
        feeds = {name: values[name].reshape(self.shapes[name]) for name in self.stage.inputs}
        try:
            results = self.session.run(list(self.stage.outputs), feeds)
        except _ERRORS as error:
            raise DeviceError(
                f"Host stage {self.stage.name} failed: {_first_line(error)}",
                hint="This is a bug in Gatecast or in the artifact: compile the network again.",
            ) from error
        values.update(zip(self.stage.outputs, results, strict=True))
        return DeviceUse()


@dataclass(frozen=True)
class ReadyProgramStage:
    """A Program on a device; `lock` keeps to one run at a time on it."""

    stage: ProgramStage
    loaded: LoadedProgram
    lock: Lock

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.stage.name

    def run(self, values: Values) -> DeviceUse:
        """Run the Program; the seconds are the device's alone, without packing and unpacking."""
        program = self.stage.program
        tensors = {port.name: values[port.name].reshape(port.shape) for port in program.inputs}
        packed = pack_inputs(program, tensors)
        with self.lock:
            start = time.perf_counter()
            section = self.loaded.run(packed)
            use = DeviceUse(time.perf_counter() - start, device_report(self.loaded))
        values.update(unpack_outputs(program, section))
        return use


def ready_host_stage(stage: HostStage, threads: int | None) -> ReadyHostStage:
    """Create the ONNX Runtime session of a host stage, once.

    Raises
    ------
    FileError
        ONNX Runtime cannot load the stage's model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or min(MOST_THREADS, len(os.sched_getaffinity(0)))
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Threads that wait by spinning would take the cores from the device's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            bytes(stage.model), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except _ERRORS as error:
        raise FileError(
            f"Host stage {stage.name} must be a model that ONNX Runtime loads, but: {_first_line(error)}"
        ) from error
    shapes = {tensor.name: tuple(tensor.shape) for tensor in session.get_inputs()}
    return ReadyHostStage(stage, session, shapes)


def ready_program_stage(stage: ProgramStage, device: Device, lock: Lock) -> ReadyProgramStage:
    """Load a Program onto a device; its errors are those of `Device.load`."""
    return ReadyProgramStage(stage, device.load(stage.program), lock)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
