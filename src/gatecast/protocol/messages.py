"""The message classes, built from our `.proto` files in a pool of their own.

Their full names, and so their wire paths and Any addresses, are TensorFlow's. Because the pool is private,
a program may import tensorflow, or anything else that registers the same names, beside this module.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import any_pb2, descriptor_pool, message_factory, wrappers_pb2

from gatecast.protocol.proto_text import parse_proto

PROTO_FILES = ("tensor.proto", "codes.proto", "serving.proto", "health.proto", "labels.proto")


@dataclass(frozen=True)
class Method:
    """One remote call: its path, and the classes of what goes and comes."""

    path: str
    request: type[Any]
    response: type[Any]


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for name in PROTO_FILES:
        pool.Add(parse_proto(name, (Path(__file__).parent / name).read_text(encoding="utf-8")))
    return pool


POOL = _pool()


def _message(full_name: str) -> type[Any]:
    cls: type[Any] = message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))
    return cls


def _method(service: str, name: str) -> Method:
    method = POOL.FindServiceByName(service).FindMethodByName(name)
    return Method(
        f"/{service}/{name}", _message(method.input_type.full_name), _message(method.output_type.full_name)
    )


TensorProto = _message("tensorflow.TensorProto")
SignatureDef = _message("tensorflow.SignatureDef")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
ModelSpec = _message("tensorflow.serving.ModelSpec")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
HealthCheckRequest = _message("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = _message("grpc.health.v1.HealthCheckResponse")
GetLabelsRequest = _message("gatecast.GetLabelsRequest")
GetLabelsResponse = _message("gatecast.GetLabelsResponse")

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
HEALTH_SERVICE = "grpc.health.v1.Health"
LABEL_SERVICE = "gatecast.LabelService"

PREDICT = _method(PREDICTION_SERVICE, "Predict")
GET_MODEL_METADATA = _method(PREDICTION_SERVICE, "GetModelMetadata")
GET_MODEL_STATUS = _method(MODEL_SERVICE, "GetModelStatus")
HEALTH_CHECK = _method(HEALTH_SERVICE, "Check")
GET_LABELS = _method(LABEL_SERVICE, "GetLabels")

HINT_TRAILER = "gatecast-hint"
"""Key of the trailing metadata in which a server says what to do about a refusal, percent-encoded."""
