import logging
from urllib.parse import unquote

import grpc
import numpy as np
import pytest

from gatecast.errors import ImageError
from gatecast.protocol import (
    GET_LABELS,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    HEALTH_CHECK,
    HINT_TRAILER,
    PREDICT,
    SignatureDefMap,
    decode_tensor,
)

ROUTE = "x-ms-aml-grpc-service-route"
X = np.array([[1.0, 2.0]], np.float32)


def scores(response, name="scores"):
    return decode_tensor(response.outputs[name]).tolist()


# --- Named models: TensorFlow Serving's rules


def test_a_picture_is_answered_in_float_val_with_the_resolved_model(running):
    response = running.predict({"images": [b"12"]})
    tensor = response.outputs["scores"]
    assert (tensor.dtype, [dim.size for dim in tensor.tensor_shape.dim], tensor.tensor_content) == (
        1,
        [1, 3],
        b"",
    )
    assert list(tensor.float_val) == [2.0, 1.0, np.float32(2 / 3)]
    assert list(response.outputs) == ["scores"]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("classifier", 1, "serving_default")


def test_an_input_for_pictures_takes_the_float_tensor_too(running):
    assert scores(running.predict({"images": X}))[0][0] == 3.0


def test_several_inputs_and_a_filter(both):
    request_inputs = {"x": X, "y": np.float32([[10.0, 20.0]])}
    response = both.predict(request_inputs, "adder")
    assert {name: scores(response, name) for name in response.outputs} == {
        "sum": [[11.0, 22.0]],
        "difference": [[-9.0, -18.0]],
    }


def test_an_output_filter_chooses(both, predict_request):
    response = both.call(PREDICT, predict_request({"x": X, "y": X}, "adder", output_filter=["difference"]))
    assert list(response.outputs) == ["difference"]


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"name": "other"}, "NOT_FOUND", "Servable not found for request: Latest(other)"),
        ({"version": 7}, "NOT_FOUND", "Servable not found for request: Specific(classifier, 7)"),
        ({"label": "stable"}, "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
        ({"signature": "train"}, "FAILED_PRECONDITION", 'Serving signature key "train" not found.'),
        (
            {"inputs": {"Placeholder:0": [b"1"]}},
            "INVALID_ARGUMENT",
            "input size does not match signature: 1!=1 len({Placeholder:0}) != len({images}). "
            "Sent extra: {Placeholder:0}. Missing but required: {images}.",
        ),
        (
            {"inputs": {}},
            "INVALID_ARGUMENT",
            "input size does not match signature: 0!=1 len({}) != len({images}). "
            "Sent extra: {}. Missing but required: {images}.",
        ),
        (
            {"filter": ["a"]},
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: a Outputs expected to be in the set {scores}.",
        ),
        (
            {"filter": ["output_alias"]},
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: output_alias "
            "Outputs expected to be in the set {scores}.",
        ),
        ({"filter": ["scores"] * 2}, "INVALID_ARGUMENT", "duplicate output tensor alias: scores"),
        (
            {"inputs": {"images": np.zeros((1, 2), np.uint8)}},
            "INVALID_ARGUMENT",
            "Expects arg[0] to be string or float but uint8 is provided",
        ),
        (
            {"inputs": {"images": np.array([[b"1"]], object)}},
            "INVALID_ARGUMENT",
            "Input images must be a vector of strings, shape [n], not of shape [1, 1]",
        ),
        (
            {"inputs": {"images": np.zeros((1, 5), np.float32)}},
            "INVALID_ARGUMENT",
            "images must have shape [-1, 2], not [-1, 5]",
        ),
        (
            {"inputs": {"images": np.full((1, 2), np.nan, np.float32)}},
            "INVALID_ARGUMENT",
            "images must be finite, but a value is NaN",
        ),
        (
            {"inputs": {"images": [b"bad"]}},
            "INVALID_ARGUMENT",
            "images[0] must be a JPEG or PNG picture, not 3 other bytes",
        ),
    ],
)
def test_mistakes_are_answered_as_tensorflow_serving_does_and_the_server_goes_on(
    running, predict_request, change, code, text
):
    request = predict_request(
        change.get("inputs", {"images": [b"1"]}),
        change.get("name", "classifier"),
        output_filter=change.get("filter", ()),
    )
    request.model_spec.signature_name = change.get("signature", "")
    if "version" in change:
        request.model_spec.version.value = change["version"]
    if "label" in change:
        request.model_spec.version_label = change["label"]
    assert running.refused(PREDICT, request) == (code, text)
    assert scores(running.predict({"images": [b"1"]}))[0][0] == 1.0


def test_a_wrong_dtype_of_a_float_input_names_both(both, predict_request):
    request = predict_request({"x": X, "y": [b"1"]}, "adder")
    assert both.refused(PREDICT, request) == (
        "INVALID_ARGUMENT",
        "Expects arg[1] to be float but string is provided",
    )


@pytest.mark.parametrize(
    ("shape", "content", "reason"),
    [
        ([1, 2], b"abc", "tensor_content must have 8 bytes for its shape, not 3"),
        ([-1, 2], b"", "tensor_shape must have no negative size, not [-1, 2]"),
        (
            [2, 1 << 30],
            b"",
            "tensor_shape must have at most 16777216 elements, not [2, 1073741824]",
        ),
    ],
)
def test_a_malformed_tensor_is_named(running, predict_request, shape, content, reason):
    request = predict_request({}, "classifier")
    tensor = request.inputs["images"]
    tensor.dtype, tensor.tensor_content = 1, content
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    assert running.refused(PREDICT, request) == (
        "INVALID_ARGUMENT",
        f"tensor parsing error: images ({reason})",
    )


def test_a_repeated_value_may_fill_no_more_than_the_limit(serve, classifier, predict_request):
    running = serve({"classifier": classifier()}, elements=4)
    for rows, fits in ((2, True), (3, False)):
        request = predict_request({}, "classifier")
        tensor = request.inputs["images"]
        tensor.dtype = 1
        tensor.float_val.append(0.5)
        for size in (rows, 2):
            tensor.tensor_shape.dim.add(size=size)
        if fits:
            assert scores(running.call(PREDICT, request)) == [[1.0, 0.5, np.float32(1 / 3)]] * 2
        else:
            assert running.refused(PREDICT, request)[0] == "INVALID_ARGUMENT"


def test_one_value_may_not_ask_for_very_many_images(running, predict_request):
    request = predict_request({"images": [b"1"]}, "classifier")
    request.inputs["images"].tensor_shape.dim[0].size = 1024
    assert len(scores(running.call(PREDICT, request))) == 1024
    request.inputs["images"].tensor_shape.dim[0].size = 1 << 24
    assert running.refused(PREDICT, request) == (
        "INVALID_ARGUMENT",
        "Input images must have at most 1024 images, not 16777216; send them in several requests",
    )


def test_one_string_may_not_fill_a_huge_matrix(running, predict_request):
    request = predict_request({"images": [b"1"]}, "classifier")
    request.inputs["images"].tensor_shape.dim.add(size=1 << 20)
    assert running.refused(PREDICT, request) == (
        "INVALID_ARGUMENT",
        "tensor parsing error: images (tensor_shape must have at most 1024 elements, not [1, 1048576])",
    )


def test_bytes_that_are_no_message_are_the_callers_mistake(running):
    call = running.channel.unary_unary(PREDICT.path)
    with pytest.raises(grpc.RpcError) as error:
        call(b"\xff\xff\xff", timeout=20)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "Request must be a tensorflow.serving.PredictRequest"


def test_a_request_over_the_limit_is_refused_and_the_server_goes_on(serve, classifier, predict_request):
    running = serve({"classifier": classifier()}, request_bytes=1000)
    code, text = running.refused(PREDICT, predict_request({"images": [b"x" * 2000]}, "classifier"))
    assert code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in text
    assert "1000" in text
    assert scores(running.predict({"images": [b"x" * 900]}))[0][0] == 900.0


def test_a_five_megabyte_picture_passes_by_default(running):
    assert scores(running.predict({"images": [bytes(5 << 20)]}))[0][0] == 5 << 20


def test_a_fault_of_the_device_is_internal_and_says_what(running, predict_request, caplog):
    assert running.refused(PREDICT, predict_request({"images": [b"fault"]}, "classifier")) == (
        "INTERNAL",
        "Device reference lost its memory",
    )
    assert "Model classifier version 1 failed: Device reference lost its memory" in caplog.text


def test_a_bug_is_internal_with_its_traceback_only_in_the_log(running, predict_request, caplog):
    assert running.refused(PREDICT, predict_request({"images": [b"bug"]}, "classifier")) == (
        "INTERNAL",
        "Model classifier failed to run (ZeroDivisionError); see the server's log",
    )
    record = next(r for r in caplog.records if r.exc_info)
    assert (record.levelno, record.message) == (logging.ERROR, "Model classifier version 1 failed")
    assert "secret detail" in caplog.text
    assert scores(running.predict({"images": [b"1"]}))[0][0] == 1.0


def test_long_texts_are_cut(running, predict_request):
    _, text = running.refused(PREDICT, predict_request({"images": [b"1"]}, "n" * 3000))
    assert len(text) == 1024 + len("...TRUNCATED")
    assert text.endswith("n...TRUNCATED")


def test_version_zero_means_the_newest_where_there_is_none(running, predict_request):
    request = predict_request({"images": [b"1"]}, "classifier")
    request.model_spec.version.value = 0
    assert running.call(PREDICT, request).model_spec.version.value == 1


def test_a_deadline_that_passes_while_waiting_is_the_clients(serve, classifier, predict_request):
    session = classifier()
    running = serve({"classifier": session})
    call = running.channel.unary_unary(PREDICT.path, request_serializer=PREDICT.request.SerializeToString)
    waiting = call.future(predict_request({"images": [b"wait"]}, "classifier"), timeout=0.2)
    assert session.running.acquire(timeout=10)
    assert waiting.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
    session.released.set()


def test_more_pending_predictions_than_the_limit_are_unavailable(serve, classifier, predict_request):
    session = classifier()
    running = serve({"classifier": session}, pending=1)
    call = running.channel.unary_unary(
        PREDICT.path,
        request_serializer=PREDICT.request.SerializeToString,
        response_deserializer=PREDICT.response.FromString,
    )
    first = call.future(predict_request({"images": [b"wait"]}, "classifier"), timeout=20)
    assert session.running.acquire(timeout=10)
    assert running.refused(PREDICT, predict_request({"images": [b"1"]}, "classifier")) == (
        "UNAVAILABLE",
        "The server has 1 predictions pending already; try again",
    )
    assert running.call(HEALTH_CHECK, HEALTH_CHECK.request()).status == 1
    session.released.set()
    assert scores(first.result())[0][0] == 4.0


def test_calls_that_are_not_offered_say_so(running):
    for path in (
        "/tensorflow.serving.PredictionService/Classify",
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    ):
        with pytest.raises(grpc.RpcError) as error:
            running.channel.unary_unary(path)(b"", timeout=20)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert error.value.details() == f"{path.rpartition('/')[2]} is not offered; use Predict"


# --- Requests that name no model: what the original clients are used to


@pytest.mark.parametrize("name", ["images", "Placeholder:0", "anything"])
def test_the_only_input_has_any_name(running, predict_request, name):
    assert scores(running.call(PREDICT, predict_request({name: [b"12"]})))[0][0] == 2.0


def test_an_empty_spec_is_as_good_as_none(running, predict_request):
    request = predict_request({"Placeholder:0": [b"12"]})
    request.model_spec.SetInParent()
    response = running.call(PREDICT, request)
    assert response.model_spec.name == "classifier"


def test_the_only_output_is_also_output_alias_without_a_route(running, predict_request):
    response = running.call(PREDICT, predict_request({"Placeholder:0": [b"12"]}))
    assert scores(response, "output_alias") == scores(response)
    assert sorted(response.outputs) == ["output_alias", "scores"]


@pytest.mark.parametrize(
    ("input_name", "outputs"), [("Placeholder:0", ["scores"]), ("images", ["output_alias", "scores"])]
)
def test_with_a_route_output_alias_comes_only_for_the_original_input(
    running, predict_request, input_name, outputs
):
    route = ((ROUTE, "/api/v1/service/classifier"),)
    response = running.call(PREDICT, predict_request({input_name: [b"12"]}), metadata=route)
    assert sorted(response.outputs) == outputs


def test_a_filter_may_use_the_outputs_other_names(running, predict_request):
    request = predict_request({"a": [b"12"]}, output_filter=["classifier_1/scores:0", "output_alias"])
    response = running.call(PREDICT, request)
    assert sorted(response.outputs) == ["classifier_1/scores:0", "output_alias"]


def test_a_named_request_has_no_output_alias(running):
    assert list(running.predict({"images": [b"12"]}).outputs) == ["scores"]


@pytest.mark.parametrize("route", ["/api/v1/service/adder", "/api/v1/service/adder/", "adder"])
def test_the_route_names_the_model(both, predict_request, route):
    response = both.call(PREDICT, predict_request({"x": X, "y": X}), metadata=((ROUTE, route),))
    assert response.model_spec.name == "adder"


def test_the_route_does_not_count_beside_a_name(both, predict_request):
    request = predict_request({"images": [b"1"]}, "classifier")
    assert (
        both.call(PREDICT, request, metadata=((ROUTE, "/api/v1/service/adder"),)).model_spec.name
        == "classifier"
    )


@pytest.mark.parametrize("route", ["/api/v1/service/", "/api/v1/service/my-service"])
def test_a_port_with_one_model_answers_any_route(running, predict_request, route):
    response = running.call(PREDICT, predict_request({"images": [b"1"]}), metadata=((ROUTE, route),))
    assert response.model_spec.name == "classifier"


@pytest.mark.parametrize("metadata", [(), ((ROUTE, "/api/v1/service/other"),)])
def test_with_several_models_a_name_or_a_known_route_is_needed(both, predict_request, metadata):
    assert both.refused(PREDICT, predict_request({"images": [b"1"]}), metadata=metadata) == (
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    )


def test_several_inputs_keep_their_names_but_may_end_in_tensorflows_index(both, predict_request):
    route = ((ROUTE, "adder"),)
    assert "sum" in both.call(PREDICT, predict_request({"x:0": X, "y": X}), metadata=route).outputs
    code, text = both.refused(PREDICT, predict_request({"x": X, "b": X}), metadata=route)
    assert (code, "Sent extra: {b}. Missing but required: {y}." in text) == ("INVALID_ARGUMENT", True)


def test_the_same_input_twice_under_two_names_is_refused(both, predict_request):
    request = predict_request({"x": X, "x:0": X})
    code, text = both.refused(PREDICT, request, metadata=((ROUTE, "adder"),))
    assert (code, "Missing but required: {y}." in text) == ("INVALID_ARGUMENT", True)


def test_the_only_input_is_not_taken_from_two(running, predict_request):
    assert running.refused(PREDICT, predict_request({"a": [b"1"], "b": [b"2"]})) == (
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({a,b}) != len({images}). "
        "Sent extra: {}. Missing but required: {}.",
    )


def test_an_original_client_gets_a_request_id(running, predict_request):
    call = running.channel.unary_unary(PREDICT.path, request_serializer=PREDICT.request.SerializeToString)
    _, unnamed = call.with_call(predict_request({"a": [b"1"]}), timeout=20)
    _, named = call.with_call(predict_request({"images": [b"1"]}, "classifier"), timeout=20)
    assert len(dict(unnamed.initial_metadata())["request_id"]) == 36
    assert "request_id" not in dict(named.initial_metadata())


def trailers(running, request):
    with pytest.raises(grpc.RpcError) as error:
        running.call(PREDICT, request)
    return {key: value for key, value in error.value.trailing_metadata() if key == HINT_TRAILER}


def test_a_hint_travels_beside_the_text(running, predict_request):
    assert trailers(running, predict_request({"images": [b"bad"]}, "classifier")) == {
        "gatecast-hint": "Send the bytes of a whole JPEG or PNG file."
    }
    assert trailers(running, predict_request({"images": [b"a"]}, "other")) == {}


def test_a_hint_is_plain_ascii_and_bounded(serve, classifier, predict_request):
    class Talkative(classifier):
        def run(self, inputs, outputs=None):
            raise ImageError("no", hint="größer\r\n% " + "ü" * 1000)

    running = serve({"classifier": Talkative()})
    (hint,) = trailers(running, predict_request({"images": [b"a"]}, "classifier")).values()
    assert hint.startswith("gr%C3%B6%C3%9Fer%0D%0A%25 %C3%BC")
    assert len(unquote(hint)) == 300


# --- Metadata, status, labels, health


def test_metadata_has_the_signature(running):
    request = GET_MODEL_METADATA.request(metadata_field=["signature_def"])
    request.model_spec.name = "classifier"
    response = running.call(GET_MODEL_METADATA, request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("classifier", 1)
    packed = response.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = SignatureDefMap.FromString(packed.value).signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    images, out = signature.inputs["images"], signature.outputs["scores"]
    assert (images.name, images.dtype, [dim.size for dim in images.tensor_shape.dim]) == ("images", 7, [-1])
    assert (out.name, out.dtype, [dim.size for dim in out.tensor_shape.dim]) == ("scores", 1, [-1, 3])


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        (["signature_def"], None, ("INVALID_ARGUMENT", "Missing ModelSpec")),
        (["signature_def"], "", ("INVALID_ARGUMENT", "ModelSpec has no name specified.")),
        (["signature_def"], "other", ("NOT_FOUND", "Servable not found for request: Latest(other)")),
        (["labels"], "classifier", ("INVALID_ARGUMENT", "Metadata field labels is not supported")),
        (
            [],
            "classifier",
            ("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field"),
        ),
    ],
)
def test_mistakes_about_metadata(running, fields, name, expected):
    request = GET_MODEL_METADATA.request(metadata_field=fields)
    if name is not None:
        request.model_spec.name = name
        request.model_spec.SetInParent()
    assert running.refused(GET_MODEL_METADATA, request) == expected


def test_status_tells_the_state_of_each_version(running):
    request = GET_MODEL_STATUS.request()
    request.model_spec.name = "classifier"
    (status,) = running.call(GET_MODEL_STATUS, request).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, 30, 0)


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        (None, None, ("INVALID_ARGUMENT", "Missing ModelSpec")),
        ("other", None, ("NOT_FOUND", "Could not find any versions of model other")),
        ("classifier", 7, ("NOT_FOUND", "Could not find version 7 of model classifier")),
    ],
)
def test_mistakes_about_status(running, name, version, expected):
    request = GET_MODEL_STATUS.request()
    if name is not None:
        request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    assert running.refused(GET_MODEL_STATUS, request) == expected


def test_a_version_label_chooses_a_version(running, predict_request):
    running.server.models.assign_label("classifier", "stable", 1)
    request = predict_request({"images": [b"a"]}, "classifier")
    request.model_spec.version_label = "stable"
    assert running.call(PREDICT, request).model_spec.version.value == 1


def test_labels_come_with_the_name_of_the_model(running):
    response = running.call(GET_LABELS, GET_LABELS.request())
    assert (list(response.labels), response.model_spec.name) == (["cat", "dog", "bird"], "classifier")


def test_a_model_without_labels_has_none(both):
    request = GET_LABELS.request()
    request.model_spec.name = "adder"
    assert list(both.call(GET_LABELS, request).labels) == []


@pytest.mark.parametrize(
    "service",
    [
        "",
        "PredictionService",
        "ModelService",
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
    ],
)
def test_health_is_known_by_short_and_full_names(running, service):
    assert running.call(HEALTH_CHECK, HEALTH_CHECK.request(service=service)).status == 1


def test_health_of_an_unknown_service_is_not_found(running):
    assert running.refused(HEALTH_CHECK, HEALTH_CHECK.request(service="x")) == (
        "NOT_FOUND",
        "Service x is not known",
    )
