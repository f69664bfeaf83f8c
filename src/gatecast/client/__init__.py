"""Python client of the serving protocol; needs only the wire protocol, NumPy and grpcio."""

from gatecast.client.client import (
    ModelInfo,
    PredictionClient,
    Retry,
    TensorInfo,
    VersionStatus,
)
from gatecast.client.transport import CallError, GrpcTransport, MockTransport, Transport

__all__ = [
    "CallError",
    "GrpcTransport",
    "MockTransport",
    "ModelInfo",
    "PredictionClient",
    "Retry",
    "TensorInfo",
    "Transport",
    "VersionStatus",
]
