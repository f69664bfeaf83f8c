import logging
import socket
import time

import numpy as np
import pytest

from gatecast.client import CallError, MockTransport, PredictionClient, Retry, TensorInfo, VersionStatus
from gatecast.errors import FileError, GatecastError, NotFoundError, RequestError, ServingError
from gatecast.protocol import (
    GET_LABELS,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    PREDICT,
    SignatureDefMap,
    decode_tensor,
    encode_tensor,
)

SCORES = np.array([[0.25, 0.75]], np.float32)


def answering(outputs):
    """Answer each prediction with these outputs."""
    response = PREDICT.response()
    for name, values in outputs.items():
        encode_tensor(response.outputs[name], values)
    return MockTransport(lambda path, request: response.SerializeToString())


def refusing(code, text="because", times=1000, hint=None):
    """Refuse so many times, then answer with scores."""
    refusals = iter(range(times))
    transport = answering({"scores": SCORES})
    answer = transport._answer

    def refuse(path, request):
        if next(refusals, None) is not None:
            raise CallError(code, text, hint)
        return answer(path, request)

    return MockTransport(refuse)


def client_of(transport, **options):
    return PredictionClient("host", transport=transport, **options)


def sent(transport, method=PREDICT):
    path, data, timeout, metadata = transport.calls[-1]
    assert path == method.path
    return method.request.FromString(data)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(b"\x89PNG")
    return path


# --- What is sent


def test_a_file_is_sent_as_it_is_and_names_no_model(picture):
    transport = answering({"scores": SCORES})
    client_of(transport).score_file(picture)
    request = sent(transport)
    tensor = request.inputs["images"]
    assert (tensor.dtype, [dim.size for dim in tensor.tensor_shape.dim]) == (7, [1])
    assert list(tensor.string_val) == [b"\x89PNG"]
    assert (request.model_spec.name, list(request.output_filter)) == ("", [])
    assert transport.calls[-1][2] == 10.0


def test_arrays_are_sent_in_tensor_content():
    transport = answering({"scores": SCORES})
    client_of(transport).score_numpy_arrays({"x": SCORES})
    tensor = sent(transport).inputs["x"]
    assert (tensor.tensor_content, len(tensor.float_val)) == (SCORES.tobytes(), 0)
    assert transport.calls[-1][2] == 30.0


def test_model_version_signature_and_outputs_are_sent():
    transport = answering({"scores": SCORES})
    client = client_of(transport, model="m")
    client.predict({"x": SCORES}, version=0, signature_name="s", outputs=["scores"], timeout=None)
    request = sent(transport)
    assert (request.model_spec.name, request.model_spec.version.value) == ("m", 0)
    assert request.model_spec.WhichOneof("version_choice") == "version"
    assert (request.model_spec.signature_name, list(request.output_filter)) == ("s", ["scores"])
    client.predict({"x": SCORES}, model="other")
    assert sent(transport).model_spec.name == "other"


def test_raw_tensors_are_sent_with_their_shape_and_dtype():
    transport = answering({"scores": SCORES})
    client = client_of(transport)
    client.score_tensors({"a": (b"abc", [1], "string"), "b": (SCORES.tobytes(), [2, 1], "float32")})
    request = sent(transport)
    assert list(request.inputs["a"].string_val) == [b"abc"]
    assert decode_tensor(request.inputs["b"]).tolist() == [[0.25], [0.75]]


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        ((b"abc", [1], "float32"), "Tensor a must be the bytes of float32 numbers: buffer size"),
        (
            (b"abc", [1], "what"),
            "Tensor a must be the bytes of what numbers: data type 'what' not understood",
        ),
        ((bytes(8), [3], "float32"), "Tensor a of shape [3] must not have 2 elements"),
    ],
)
def test_raw_tensors_that_cannot_be_are_refused_here(tensor, text):
    with pytest.raises(RequestError) as error:
        client_of(answering({})).score_tensors({"a": tensor})
    assert str(error.value).startswith(text)


def test_key_and_route_are_sent_as_the_original_client_sends_them():
    transport = answering({"scores": SCORES})
    client_of(transport, access_token="k", service_name="s").predict({"x": SCORES})
    assert transport.calls[-1][3] == [
        ("authorization", "Bearer k"),
        ("x-ms-aml-grpc-service-route", "/api/v1/service/s"),
    ]
    client_of(transport).predict({"x": SCORES})
    assert transport.calls[-1][3] == []


# --- What comes back


def test_one_output_of_a_file_has_no_batch_dimension(picture):
    scores = client_of(answering({"scores": SCORES})).score_file(picture)
    assert scores.tolist() == [0.25, 0.75]


def test_a_named_output_of_a_file_has_no_batch_dimension_either(picture):
    client = client_of(answering({"a": SCORES, "b": SCORES + 1}))
    assert client.score_file(picture, outputs="b").tolist() == [1.25, 1.75]


def test_a_list_of_outputs_keeps_order_and_batch(picture):
    client = client_of(answering({"a": SCORES, "b": SCORES + 1}))
    assert [a.tolist() for a in client.score_file(picture, outputs=["b", "a"])] == [
        [[1.25, 1.75]],
        [[0.25, 0.75]],
    ]
    assert [a.tolist() for a in client.score_file(picture, outputs=["a"])] == [[[0.25, 0.75]]]


def test_several_outputs_that_nobody_chose_are_in_the_order_of_their_names(picture):
    client = client_of(answering({"b": SCORES + 1, "a": SCORES}))
    assert [a.tolist() for a in client.score_file(picture)] == [[[0.25, 0.75]], [[1.25, 1.75]]]


def test_arrays_keep_their_batch():
    assert client_of(answering({"a": SCORES})).score_numpy_arrays({"x": SCORES}).tolist() == [[0.25, 0.75]]


def test_the_second_name_of_the_only_output_is_dropped_unless_asked_for(picture):
    client = client_of(answering({"scores": SCORES, "output_alias": SCORES}))
    assert list(client.predict({"x": SCORES})) == ["scores"]
    assert client.score_file(picture).tolist() == [0.25, 0.75]
    assert client.score_file(picture, outputs="output_alias").tolist() == [0.25, 0.75]


def test_an_output_that_did_not_come_is_named(picture):
    with pytest.raises(ServingError) as error:
        client_of(answering({"scores": SCORES})).score_file(picture, outputs="a")
    assert str(error.value) == "Answer of host:8500 must have output a, but has ['scores']"


def test_an_answer_that_is_no_message_is_an_error():
    with pytest.raises(ServingError) as error:
        client_of(MockTransport(lambda path, request: b"\xff\xff")).predict({"x": SCORES})
    assert str(error.value) == "Answer of host:8500 must be a PredictResponse"


def test_a_model_is_described():
    response = GET_MODEL_METADATA.response()
    response.model_spec.name, response.model_spec.version.value = "m", 3
    signatures = SignatureDefMap()
    images = signatures.signature_def["serving_default"].inputs["images"]
    images.dtype = 7
    images.tensor_shape.dim.add(size=-1)
    response.metadata["signature_def"].Pack(signatures)
    transport = MockTransport(lambda path, request: response.SerializeToString())
    info = client_of(transport, model="m").describe()
    assert (info.name, info.version, info.outputs) == ("m", 3, ())
    assert info.inputs == (TensorInfo("images", "string", (-1,)),)
    assert list(sent(transport, GET_MODEL_METADATA).metadata_field) == ["signature_def"]


def test_status_is_told_by_version():
    response = GET_MODEL_STATUS.response()
    response.model_version_status.add(version=2, state=30)
    response.model_version_status.add(version=1, state=50).status.error_message = "broken"
    transport = MockTransport(lambda path, request: response.SerializeToString())
    assert client_of(transport).status("m") == [
        VersionStatus(2, "AVAILABLE"),
        VersionStatus(1, "END", "broken"),
    ]


def test_labels_come_if_the_server_has_them():
    response = GET_LABELS.response(labels=["cat", "dog"])
    assert client_of(MockTransport(lambda path, request: response.SerializeToString())).labels() == (
        "cat",
        "dog",
    )
    assert client_of(refusing("UNIMPLEMENTED")).labels() == ()
    with pytest.raises(NotFoundError):
        client_of(refusing("NOT_FOUND")).labels("other")


# --- Errors and retries


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("INVALID_ARGUMENT", RequestError, "because"),
        ("FAILED_PRECONDITION", RequestError, "because"),
        ("NOT_FOUND", NotFoundError, "because"),
        ("DEADLINE_EXCEEDED", ServingError, "Server at host:8500 did not answer in time: because"),
        ("UNAUTHENTICATED", ServingError, "Server at host:8500 answered UNAUTHENTICATED: because"),
        ("INTERNAL", ServingError, "Server at host:8500 answered INTERNAL: because"),
        ("RESOURCE_EXHAUSTED", ServingError, "Server at host:8500 answered RESOURCE_EXHAUSTED: because"),
    ],
)
def test_refusals_are_told_once_with_the_servers_words(code, kind, text):
    transport = refusing(code)
    with pytest.raises(kind) as error:
        client_of(transport).predict({"x": SCORES})
    assert str(error.value) == text
    assert len(transport.calls) == 1


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the client would have slept."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def test_a_server_that_comes_back_is_asked_again(waits):
    transport = refusing("UNAVAILABLE", times=2)
    assert list(client_of(transport).predict({"x": SCORES})) == ["scores"]
    assert (len(transport.calls), waits) == (3, [0.1, 0.2])


def test_a_server_that_stays_away_is_an_error_with_its_address(waits):
    transport = refusing("UNAVAILABLE")
    with pytest.raises(CallError) as error:
        client_of(transport, retry=Retry(attempts=3, first_wait_s=1.0)).predict({"x": SCORES})
    assert str(error.value) == "No server answers at host:8500: because"
    assert error.value.hint == "Check the address and port, and that the server runs."
    assert (len(transport.calls), waits) == (3, [1.0, 2.0])


def test_a_retry_without_attempts_is_refused():
    with pytest.raises(ServingError, match="Retry must have at least 1 attempt, not 0"):
        client_of(answering({}), retry=Retry(attempts=0)).predict({})


def test_nothing_listening_is_told_with_the_address():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        with (
            PredictionClient("127.0.0.1", port, retry=Retry(attempts=1)) as client,
            pytest.raises(ServingError, match=f"No server answers at 127.0.0.1:{port}: "),
        ):
            client.predict({"x": SCORES})


def test_the_key_is_never_logged_or_shown(waits, caplog):
    caplog.set_level(logging.DEBUG)
    client = client_of(refusing("UNAVAILABLE"), access_token="s3cret")
    with pytest.raises(ServingError) as error:
        client.predict({"x": SCORES})
    assert "attempt 1 of 4" in caplog.text
    assert "s3cret" not in caplog.text + str(error.value) + repr(client)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileError) as error:
        client_of(answering({})).score_file(tmp_path / "no.png")
    assert (
        str(error.value) == f"Picture {tmp_path / 'no.png'} must be readable, but No such file or directory"
    )


def test_an_empty_address_is_refused():
    with pytest.raises(ServingError, match="Address must be HOST or HOST:PORT, not empty"):
        PredictionClient("")


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"])
def test_the_hint_of_the_server_is_the_hint_of_the_error(code):
    with client_of(refusing(code, hint="Try a cat.")) as client:
        with pytest.raises(GatecastError) as error:
            client.predict({"images": [b"a"]})
    assert error.value.hint == "Try a cat."


@pytest.mark.parametrize(
    ("address", "port", "target", "ssl"),
    [
        ("host", None, "host:8500", False),
        ("host:90", None, "host:90", False),
        ("host", 90, "host:90", False),
        ("host:90", 91, "host:91", False),
        ("::1", None, "[::1]:8500", False),
        ("::1", 90, "[::1]:90", False),
        ("[::1]:90", None, "[::1]:90", False),
        ("127.0.0.1", 0, "127.0.0.1:0", False),
        ("http://127.0.0.2/", None, "127.0.0.2:80", False),
        ("http://127.0.0.1:8512/", None, "127.0.0.1:8512", False),
        ("http://host", 90, "host:90", False),
        ("https://host/", None, "host:443", True),
        ("https://[::1]:90/", None, "[::1]:90", True),
    ],
)
def test_the_server_is_what_address_and_port_say(monkeypatch, address, port, target, ssl):
    made = {}
    monkeypatch.setattr(
        "gatecast.client.client.GrpcTransport",
        lambda *given: made.update(target=given[0], ssl=given[1] is not None),
    )
    PredictionClient(address, port)
    assert made == {"target": target, "ssl": ssl}


@pytest.mark.parametrize("address", ["ftp://host/", "http://host/v1/models", "http://"])
def test_an_address_with_more_than_a_server_is_refused(address):
    with pytest.raises(ServingError, match="Address must be"):
        PredictionClient(address)
