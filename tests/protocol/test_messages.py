import pytest
from google.protobuf import any_pb2, descriptor_pool

from gatecast.protocol import (
    GET_LABELS,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    HEALTH_CHECK,
    POOL,
    PREDICT,
    GetModelMetadataResponse,
    ModelSpec,
    PredictRequest,
    SignatureDefMap,
    TensorProto,
)


def test_remote_calls_have_tensorflow_servings_paths():
    assert [
        method.path for method in (PREDICT, GET_MODEL_METADATA, GET_MODEL_STATUS, HEALTH_CHECK, GET_LABELS)
    ] == [
        "/tensorflow.serving.PredictionService/Predict",
        "/tensorflow.serving.PredictionService/GetModelMetadata",
        "/tensorflow.serving.ModelService/GetModelStatus",
        "/grpc.health.v1.Health/Check",
        "/gatecast.LabelService/GetLabels",
    ]
    assert PREDICT.request is PredictRequest


def test_the_bytes_of_an_original_client_are_understood_and_made():
    # Ref: what azureml-accel-models 1.62.0 sends for score_tensors with one string
    data = bytes.fromhex("121e0a0d506c616365686f6c6465723a30120d08071204120208014203616263")
    request = PredictRequest.FromString(data)
    tensor = request.inputs["Placeholder:0"]
    assert not request.HasField("model_spec")
    assert (tensor.dtype, [dim.size for dim in tensor.tensor_shape.dim], list(tensor.string_val)) == (
        7,
        [1],
        [b"abc"],
    )
    assert request.SerializeToString() == data


def test_the_names_are_not_in_the_pool_that_other_packages_use():
    assert POOL is not descriptor_pool.Default()
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("tensorflow.serving.PredictRequest")


def test_metadata_is_addressed_as_tensorflow_serving_addresses_it():
    signatures = SignatureDefMap()
    signatures.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    response = GetModelMetadataResponse()
    response.metadata["signature_def"].Pack(signatures)
    wire = any_pb2.Any.FromString(response.metadata["signature_def"].SerializeToString())
    assert wire.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    assert SignatureDefMap.FromString(wire.value) == signatures


def test_version_zero_is_not_the_same_as_no_version():
    spec = ModelSpec()
    spec.version.value = 0
    assert ModelSpec.FromString(spec.SerializeToString()).WhichOneof("version_choice") == "version"
    assert ModelSpec().WhichOneof("version_choice") is None


def test_fields_of_newer_versions_are_skipped():
    newer = b"\x32\x05hello"  # PredictRequest.client_id = 6
    assert not PredictRequest.FromString(newer).inputs


def test_numbers_are_read_packed_and_unpacked():
    packed = bytes.fromhex("0801" + "2a08" + "0000803f" + "00000040")
    unpacked = bytes.fromhex("0801" + "2d0000803f" + "2d00000040")
    for data in (packed, unpacked):
        assert list(TensorProto.FromString(data).float_val) == [1.0, 2.0]
