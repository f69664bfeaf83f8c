import base64
import http.client
import json
import math
import socket
import time

import pytest


@pytest.fixture(scope="module")
def rest(serve_once, classifier):
    return serve_once({"classifier": classifier()}, rest=True)


@pytest.fixture(scope="module")
def rest_both(serve_once, classifier, adder):
    return serve_once({"classifier": classifier(), "adder": adder()}, rest=True)


PREDICT = "/v1/models/classifier:predict"
ONE = {"instances": ["1"]}
NO_SIGNATURE = 'Serving signature name: "s" not found in signature def'
SEVEN = "/v1/models/classifier/versions/7:predict"
SCALAR = "Input images must be a vector of strings, shape [n], not of shape []"
BUG = "Model classifier failed to run (ZeroDivisionError); see the server's log"


def test_rows(rest):
    body = {"instances": [{"b64": base64.b64encode(b"12").decode()}, "1234"]}
    assert rest.get(PREDICT, body) == (200, {"predictions": [[2.0, 1.0, 0.6666667], [4.0, 2.0, 1.3333334]]})


def test_columns(rest_both):
    body = {"inputs": {"x": [[1, 2]], "y": [[3, 4.5]]}}
    expected = {"outputs": {"sum": [[4.0, 6.5]], "difference": [[-2.0, -2.5]]}}
    assert rest_both.get("/v1/models/adder:predict", body) == (200, expected)


def test_rows_of_several_inputs(rest_both):
    body = {"instances": [{"x": [1, 2], "y": [3, 4]}]}
    expected = {"predictions": [{"sum": [4.0, 6.0], "difference": [-2.0, -2.0]}]}
    assert rest_both.get("/v1/models/adder:predict", body) == (200, expected)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/classifier/versions/1:predict",
        "/v1/models/classifier/versions/0:predict",
        "/V1/Models/classifier/Versions/001:PREDICT",
        "/v1/models/%63lassifier:predict",
    ],
)
def test_versions_letter_case_and_percent_codes_in_the_path(rest, path):
    assert rest.get(path, ONE)[0] == 200


def test_nan_is_a_token_both_ways(rest_both):
    status, reply = rest_both.get(
        "/v1/models/adder:predict", b'{"inputs": {"x": [[NaN, 1]], "y": [[1, Infinity]]}}'
    )
    assert status == 200
    assert math.isnan(reply["outputs"]["sum"][0][0])
    assert reply["outputs"]["sum"][0][1] == math.inf


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v1/models/other:predict", ONE, 404, "Servable not found for request: Latest(other)"),
        (SEVEN, ONE, 404, "Servable not found for request: Specific(classifier, 7)"),
        ("/v1/models/classifier/labels/a:predict", ONE, 400, "Unrecognized servable version label: a"),
        (PREDICT, ONE | {"signature_name": "s"}, 400, NO_SIGNATURE),
        (PREDICT, ONE | {"signature_name": 1}, 400, "'signature_name' key must be a string value."),
        (PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        (PREDICT, b"nonsense", 400, "JSON Parse error: Expecting value: line 1 column 1 (char 0)"),
        (PREDICT, b"", 400, "JSON Parse error: The document is empty"),
        (PREDICT, {"instances": ["bad"]}, 400, "images[0] must be a JPEG or PNG picture, not 3 other bytes"),
        (PREDICT, {"inputs": "ab"}, 400, SCALAR),
        (PREDICT, {"instances": [[1, 2, 3]]}, 400, "images must have shape [-1, 2], not [-1, 3]"),
        (PREDICT, {"instances": ["fault"]}, 500, "Device reference lost its memory"),
        (PREDICT, {"instances": ["bug"]}, 500, BUG),
        ("/v1/models/classifier:classify", ONE, 501, "classify is not offered; use predict"),
        ("/v1/models/classifier:explode", ONE, 400, "Malformed request: POST /v1/models/classifier:explode"),
        ("/v1/models/classifier", ONE, 400, "Malformed request: POST /v1/models/classifier"),
        ("/", None, 400, "Malformed request: GET /"),
        (PREDICT, None, 400, "Malformed request: GET /v1/models/classifier:predict"),
        ("/v1/models", None, 400, "Missing model name in request."),
        ("/v1/models/other", None, 404, "Could not find any versions of model other"),
        ("/v1/models/classifier/versions/7", None, 404, "Could not find version 7 of model classifier"),
        ("/v1/models/other/metadata", None, 404, "Servable not found for request: Latest(other)"),
        ("/v1/models/other/labels", None, 404, "Servable not found for request: Latest(other)"),
        ("/v1/models/classifier/versions/9" + "9" * 30, None, 400, None),
    ],
)  # fmt: skip
def test_mistakes_get_the_status_and_text_and_the_server_goes_on(rest, path, body, status, text):
    answered, reply = rest.get(path, body)
    assert (answered, list(reply)) == (status, ["error"])
    assert text is None or reply["error"] == text
    assert rest.get(PREDICT, ONE)[0] == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_other_methods_are_malformed(rest, method):
    assert rest.get(PREDICT, ONE, method) == (400, {"error": f"Malformed request: {method} {PREDICT}"})


@pytest.mark.parametrize("path", ["/v1/models/classifier", "/v1/models/classifier/versions/1"])
def test_status(rest, path):
    status = {"error_code": "OK", "error_message": ""}
    version = {"version": "1", "state": "AVAILABLE", "status": status}
    assert rest.get(path) == (200, {"model_version_status": [version]})


@pytest.mark.parametrize(
    "path", ["/v1/models/classifier/metadata", "/v1/models/classifier/versions/1/metadata"]
)
def test_metadata(rest, path):
    def tensor(name, dtype, *sizes):
        dims = [{"size": str(size), "name": ""} for size in sizes]
        return {"name": name, "dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}}

    signature = {
        "inputs": {"images": tensor("images", "DT_STRING", -1)},
        "outputs": {"scores": tensor("scores", "DT_FLOAT", -1, 3)},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    assert rest.get(path) == (
        200,
        {
            "model_spec": {"name": "classifier", "signature_name": "", "version": "1"},
            "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
        },
    )


@pytest.mark.parametrize("path", ["/v1/models/classifier/labels", "/v1/models/classifier/versions/1/labels"])
def test_labels(rest, path):
    assert rest.get(path) == (200, {"labels": ["cat", "dog", "bird"]})


def test_a_model_without_labels_says_so(rest_both):
    assert rest_both.get("/v1/models/adder/labels") == (404, {"error": "Model adder has no labels"})


def test_version_labels_choose_a_version(rest):
    rest.server.models.assign_label("classifier", "stable", 1)
    assert rest.get("/v1/models/classifier/labels/stable:predict", ONE)[0] == 200
    assert rest.get("/v1/models/classifier/labels/stable")[1]["model_version_status"][0]["version"] == "1"


def test_names_that_no_file_could_have_are_answered_too(rest):
    assert rest.get("/v1/models/a%0ab%ff") == (
        404,
        {"error": "Could not find any versions of model a\nb\ufffd"},
    )
    body = b'{"inputs": ["a"], "signature_name": "\\ud800"}'
    assert rest.get(PREDICT, body) == (
        400,
        {"error": 'Serving signature name: "\ud800" not found in signature def'},
    )


def test_health(rest):
    assert rest.get("/healthz") == (200, {"status": "SERVING"})


def test_replies_are_json(rest):
    connection = http.client.HTTPConnection("127.0.0.1", rest.server.rest_port, timeout=20)
    connection.request("POST", PREDICT, json.dumps(ONE))
    reply = connection.getresponse()
    assert (reply.status, reply.getheader("content-type")) == (200, "application/json")
    connection.close()


def raw(port, data):
    """Send bytes, then return the first line and the body of the reply."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        return reply.status, json.loads(reply.read())


def test_too_many_images_are_refused(serve, classifier):
    running = serve({"classifier": classifier()}, rest=True, batch=2)
    assert running.get(PREDICT, {"instances": ["1"] * 3}) == (
        400,
        {"error": "Input images must have at most 2 images, not 3; send them in several requests"},
    )
    assert running.get(PREDICT, {"instances": ["1"] * 2})[0] == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read(serve, classifier):
    running = serve({"classifier": classifier()}, rest=True, request_bytes=100)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n".encode()
    assert raw(running.server.rest_port, head) == (
        413,
        {"error": "Request must have at most 100 bytes, not 101"},
    )
    assert running.get(PREDICT, ONE)[0] == 200


def test_a_body_over_the_limit_without_a_length_is_refused(serve, classifier):
    running = serve({"classifier": classifier()}, rest=True, request_bytes=100)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"3c\r\n" + b" " * 60 + b"\r\n"
    assert raw(running.server.rest_port, head + chunk * 2) == (
        413,
        {"error": "Request must have at most 100 bytes, not more"},
    )


def test_a_caller_who_sends_all_before_it_reads_gets_the_answer_too(serve, classifier):
    running = serve({"classifier": classifier()}, rest=True, request_bytes=100)
    fields = "Host: x\r\nConnection: close\r\nContent-Length: 400000"
    head = f"POST {PREDICT} HTTP/1.1\r\n{fields}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", running.server.rest_port), timeout=20) as connection:
        connection.sendall(head)
        for _ in range(4):
            time.sleep(0.05)  # the server has answered, and must not have closed
            connection.sendall(bytes(100_000))
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert reply.status == 413


def test_the_connection_of_a_refused_body_is_closed(serve, classifier):
    running = serve({"classifier": classifier()}, rest=True, request_bytes=100)
    connection = http.client.HTTPConnection("127.0.0.1", running.server.rest_port, timeout=20)
    connection.request("POST", PREDICT, bytes(1000))
    reply = connection.getresponse()
    assert (reply.status, reply.getheader("connection")) == (413, "close")
    connection.close()
    assert running.get(PREDICT, ONE)[0] == 200


def test_a_body_that_does_not_arrive_in_time_is_refused(serve, classifier):
    running = serve({"classifier": classifier()}, rest=True, timeout_s=0.1)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{{".encode()
    assert raw(running.server.rest_port, head) == (408, {"error": "Request must arrive within 0.1 s"})
