"""What both faces say about a model, as messages: its signature, and the states of its versions."""

from collections.abc import Sequence
from typing import Any

from gatecast.errors import FileError
from gatecast.graph import TensorSpec
from gatecast.protocol import (
    GetModelStatusResponse,
    SignatureDefMap,
    dtype_number,
)
from gatecast.serving.binding import Target
from gatecast.serving.models import ModelVersion
from gatecast.serving.refusal import Code

PREDICT_METHOD = "tensorflow/serving/predict"


def signature_map(target: Target) -> Any:
    """Return the SignatureDefMap of a model: its one signature under the default key."""
    message = SignatureDefMap()
    signature = message.signature_def[target.signature_name]
    signature.method_name = PREDICT_METHOD
    for spec in target.signature.inputs:
        _describe(signature.inputs[spec.name], spec)
    for spec in target.signature.outputs:
        _describe(signature.outputs[spec.name], spec)
    return message


def status_response(versions: Sequence[ModelVersion]) -> Any:
    """Return the GetModelStatusResponse for these versions, in their order."""
    message = GetModelStatusResponse()
    for version in versions:
        status = message.model_version_status.add(version=version.number, state=int(version.state))
        status.status.SetInParent()
        if version.error is not None:
            status.status.error_code = int(_code(version.error))
            status.status.error_message = str(version.error)
    return message


def _describe(info: Any, spec: TensorSpec) -> None:
    info.name = spec.name
    info.dtype = dtype_number(spec.dtype)
    info.tensor_shape.SetInParent()
    for size in spec.shape:
        info.tensor_shape.dim.add(size=size)


def _code(error: Exception) -> Code:
    return Code.FAILED_PRECONDITION if isinstance(error, FileError) else Code.UNKNOWN
