"""Python client of the serving protocol; needs only the wire protocol, NumPy and grpcio."""

from gatecast.client.address import Address, read_address
from gatecast.client.client import (
    ModelInfo,
    PredictionClient,
    Retry,
    TensorInfo,
    VersionStatus,
)
from gatecast.client.transport import CallError, GrpcTransport, MockTransport, Transport

__all__ = [
    "Address",
    "CallError",
    "GrpcTransport",
    "MockTransport",
    "ModelInfo",
    "PredictionClient",
    "Retry",
    "TensorInfo",
    "Transport",
    "VersionStatus",
    "read_address",
]
