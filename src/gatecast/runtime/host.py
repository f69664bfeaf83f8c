"""Host stages: ONNX models on ONNX Runtime. The only module of this package that knows it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Official builds of ONNX Runtime report to their maker unless told not to before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from gatecast.artifact import HostStage
from gatecast.errors import DeviceError, FileError

from .movement import Table, moves_only, source_tables
from .stages import DeviceUse, Values

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


def tables_of(ready: ReadyHostStage) -> tuple[Table, ...] | None:
    """Where each value of a stage's outputs comes from, if it only moves the values of its one input."""
    if len(ready.stage.inputs) != 1 or not moves_only(ready.stage.model):
        return None
    (name,) = ready.stage.inputs
    outputs = list(ready.stage.outputs)
    try:
        return source_tables(lambda x: ready.session.run(outputs, {name: x}), ready.shapes[name])
    except _ERRORS:
        return None  # a run will say what is wrong


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
