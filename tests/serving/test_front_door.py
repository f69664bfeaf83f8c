import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import numpy as np
import pytest

from gatecast.client import PredictionClient, Retry
from gatecast.errors import FileError, ServingError
from gatecast.protocol import (
    GET_LABELS,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    HEALTH_CHECK,
    PREDICT,
    encode_tensor,
)
from gatecast.serving import FrontDoor, FrontDoorOptions, Limits

ROUTE = "x-ms-aml-grpc-service-route"
NOWHERE = "127.0.0.1:1"
ONCE = Retry(attempts=1)


class Door:
    """A front door on free ports, its routes file, and ways to call it."""

    def __init__(self, folder, **options):
        self.path = folder / "routes.json"
        self.services = {}
        self.write()
        options = {"port": 0, "rest_port": 0, "grace_s": 5, **options}
        self.door = FrontDoor(self.path, FrontDoorOptions(**options))
        self.door.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.door.port}")

    def write(self):
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({"version": 1, "services": self.services}))
        os.replace(fresh, self.path)

    def route(self, service, *running, models=(), dead=0):
        """Have a service answered by servers, and by some that are not there."""
        replicas = [
            {
                "address": f"127.0.0.1:{one.server.port}",
                "rest_address": f"127.0.0.1:{one.server.rest_port or 1}",
            }
            for one in running
        ]
        nowhere = {"address": NOWHERE, "rest_address": NOWHERE}
        self.services[service] = {"models": list(models), "replicas": [nowhere] * dead + replicas}
        self.write()

    def call(self, method, request, **options):
        data = request if isinstance(request, bytes) else request.SerializeToString()
        call = self.channel.unary_unary(method.path, response_deserializer=method.response.FromString)
        return call(data, timeout=options.pop("timeout", 20), **options)

    def refused(self, method, request, **options):
        with pytest.raises(grpc.RpcError) as error:
            self.call(method, request, **options)
        return error.value.code().name, error.value.details()

    def client(self, **options):
        return PredictionClient("127.0.0.1", self.door.port, retry=ONCE, **options)

    def get(self, path, body=None, headers=()):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.door.rest_port}{path}", body, headers=dict(headers)
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@contextmanager
def opened(folder, **options):
    door = Door(folder, **options)
    try:
        yield door
    finally:
        door.channel.close()
        door.door.stop()


@pytest.fixture
def door(tmp_path):
    with opened(tmp_path) as door:
        yield door


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, serve_once, classifier, adder):
    """Two services, `cats` (its model is called `classifier`) and `sums`, that many tests only ask."""
    with opened(tmp_path_factory.mktemp("zoo")) as door:
        door.route("cats", serve_once({"cats": classifier()}, rest=True), models=["classifier"])
        door.route("sums", serve_once({"sums": adder()}, rest=True), models=["adder"])
        yield door


def predict(name="", pictures=(b"xy",), input_name="images"):
    request = PREDICT.request()
    if name:
        request.model_spec.name = name
    encode_tensor(request.inputs[input_name], list(pictures))
    return request


def scores(answer):
    return list(answer.outputs["scores"].float_val)


TWO = [2.0, 1.0, np.float32(2 / 3)]


@pytest.mark.parametrize("name", ["cats", "classifier"])
def test_a_call_goes_to_the_service_that_its_model_names(zoo, name):
    answer = zoo.call(PREDICT, predict(name))
    assert scores(answer) == TWO
    assert answer.model_spec.name == "cats"


@pytest.mark.parametrize("header", ["/api/v1/service/cats", "cats"])
def test_a_call_goes_to_the_service_that_its_header_names(zoo, header):
    assert scores(zoo.call(PREDICT, predict(), metadata=[(ROUTE, header)])) == TWO
    assert scores(zoo.call(PREDICT, predict("classifier"), metadata=[(ROUTE, header)])) == TWO


def test_the_client_finds_a_service_by_name(zoo):
    with zoo.client(service_name="sums") as client:
        ones = np.ones((1, 2), np.float32)
        answer = client.predict({"x": ones, "y": 2 * ones})
    assert {name: values.tolist() for name, values in answer.items()} == {
        "sum": [[3.0, 3.0]],
        "difference": [[-1.0, -1.0]],
    }


def test_the_other_calls_are_passed_on_too(zoo):
    with zoo.client(model="classifier") as client:
        assert client.describe().name == "cats"
        assert [status.state for status in client.status()] == ["AVAILABLE"]
        assert client.labels() == ("cat", "dog", "bird")


@pytest.mark.parametrize("method", [PREDICT, GET_MODEL_METADATA, GET_MODEL_STATUS, GET_LABELS])
def test_an_unknown_model_is_told_with_what_there_is(zoo, method):
    request = method.request()
    request.model_spec.name = "birds"
    assert zoo.refused(method, request) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(birds); services: cats, sums",
    )


def test_an_unknown_service_is_told_with_what_there_is(zoo):
    metadata = [(ROUTE, "/api/v1/service/birds")]
    expected = ("NOT_FOUND", "Service birds is not known; services: cats, sums")
    assert zoo.refused(PREDICT, predict(), metadata=metadata) == expected


def test_a_model_that_the_routed_service_has_not_is_refused_by_its_server(zoo):
    assert zoo.refused(PREDICT, predict("adder"), metadata=[(ROUTE, "cats")]) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(adder)",
    )


def test_refusals_are_passed_on_with_their_hint(zoo):
    with pytest.raises(grpc.RpcError) as error:
        zoo.call(PREDICT, predict("cats", [b"bad"]))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "images[0] must be a JPEG or PNG picture, not 3 other bytes"
    assert (
        dict(error.value.trailing_metadata())["gatecast-hint"]
        == "Send the bytes of a whole JPEG or PNG file."
    )


def test_what_is_no_request_is_refused_as_a_server_does(zoo):
    assert zoo.refused(PREDICT, b"\xff") == (
        "INVALID_ARGUMENT",
        "Request must be a tensorflow.serving.PredictRequest",
    )


def test_each_call_has_one_request_id_even_when_it_fails(zoo):
    call = zoo.channel.unary_unary(PREDICT.path)
    for metadata in ([(ROUTE, "cats")], [(ROUTE, "birds")]):
        future = call.future(predict().SerializeToString(), timeout=20, metadata=metadata)
        keys = [key for key, _ in future.initial_metadata()]
        assert keys.count("request_id") == 1
        future.exception()


class Recorder(grpc.GenericRpcHandler):
    """A server that keeps the metadata and the time of each call, and answers with metadata of its own."""

    def __init__(self):
        self.calls = []
        self.server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.rest_port = None
        self.ended = threading.Event()
        self.hang = False
        self.server.start()

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, data, context):
        self.calls.append((data, dict(context.invocation_metadata()), context.time_remaining()))
        context.add_callback(self.ended.set)
        if self.hang:
            self.ended.wait(20)
        context.send_initial_metadata((("request_id", "mine"), ("a-bin", b"\x00\xff")))
        context.set_trailing_metadata((("b", "after"),))
        return b"\x0a\x00"


@pytest.fixture
def recorder(door):
    recorder = Recorder()
    door.services["any"] = {
        "models": [],
        "replicas": [{"address": f"127.0.0.1:{recorder.port}", "rest_address": NOWHERE}],
    }
    door.write()
    yield recorder
    recorder.server.stop(None)


def test_metadata_goes_both_ways_and_bytes_stay_as_they_are(door, recorder):
    data = predict().SerializeToString() + b"\xfa\x06\x03new"  # a field that is not known
    call = door.channel.unary_unary(PREDICT.path)
    sent = [("authorization", "Bearer key"), ("x-bin", b"\x00\x01"), (ROUTE, "any")]
    future = call.future(data, timeout=20, metadata=sent)
    assert future.result() == b"\x0a\x00"
    ((received, metadata, _),) = recorder.calls
    assert received == data
    assert sent[0] in metadata.items() and sent[1] in metadata.items() and sent[2] in metadata.items()
    assert ("request_id", "mine") in list(future.initial_metadata())
    assert ("a-bin", b"\x00\xff") in list(future.initial_metadata())
    assert [key for key, _ in future.initial_metadata()].count("request_id") == 1
    assert ("b", "after") in list(future.trailing_metadata())


def test_the_deadline_goes_on_and_a_call_without_one_gets_one(door, recorder):
    door.call(PREDICT, predict(), timeout=7)
    door.call(PREDICT, predict(), timeout=None)
    (_, _, given), (_, _, own) = recorder.calls
    assert 5 < given < 7.1  # gRPC rounds the time that is left up
    assert 290 < own < 305


def test_a_call_that_its_caller_gives_up_is_given_up(door, recorder):
    recorder.hang = True
    future = door.channel.unary_unary(PREDICT.path).future(predict().SerializeToString(), timeout=20)
    deadline = time.monotonic() + 10
    while not recorder.calls and time.monotonic() < deadline:
        time.sleep(0.005)
    future.cancel()
    assert recorder.ended.wait(10)
    assert len(recorder.calls) == 1


def test_a_deadline_that_passes_is_told_and_not_tried_again(door, recorder):
    recorder.hang = True
    assert door.refused(PREDICT, predict(), timeout=0.3)[0] == "DEADLINE_EXCEEDED"
    assert len(recorder.calls) == 1


def test_calls_spread_over_replicas(door, serve, classifier):
    servers = [serve({"cats": classifier()}) for _ in range(2)]
    door.route("cats", *servers)
    call = door.channel.unary_unary(PREDICT.path, response_deserializer=PREDICT.response.FromString)
    waiting = [call.future(predict("cats", [b"wait"]).SerializeToString(), timeout=20) for _ in range(4)]
    sessions = [one.sessions["cats"] for one in servers]
    try:
        for session in sessions:
            assert session.running.acquire(timeout=10), "a replica got no call"
    finally:
        for session in sessions:
            session.released.set()
    assert [scores(future.result())[0] for future in waiting] == [4.0] * 4
    assert [len(session.calls) for session in sessions] == [2, 2]


def test_a_replica_that_is_not_there_is_left_out(door, serve, classifier, caplog):
    door.route("cats", serve({"cats": classifier()}, rest=True), dead=1)
    for _ in range(20):
        assert scores(door.call(PREDICT, predict("cats"))) == TWO
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert 1 <= len(warnings) <= 3  # asked once, then last for a while


def test_a_call_in_flight_on_a_replica_that_stops_is_made_again_on_another(door, serve, classifier):
    first, second = (serve({"cats": classifier()}) for _ in range(2))
    door.route("cats", first, second)
    call = door.channel.unary_unary(PREDICT.path, response_deserializer=PREDICT.response.FromString)
    future = call.future(predict("cats", [b"wait"]).SerializeToString(), timeout=20)
    sessions = [one.sessions["cats"] for one in (first, second)]
    deadline = time.monotonic() + 10
    while not any(session.calls for session in sessions) and time.monotonic() < deadline:
        time.sleep(0.005)
    busy, other = (first, second) if sessions[0].calls else (second, first)
    other.sessions["cats"].released.set()
    busy.server._grpc.stop(None).wait()  # as if it had died: what is in flight ends without an answer
    assert scores(future.result())[0] == 4.0
    busy.sessions["cats"].released.set()


def test_a_service_without_replicas_is_unavailable(door):
    door.route("cats")
    assert door.refused(PREDICT, predict("cats")) == (
        "UNAVAILABLE",
        "Service cats has no replica that takes the call (none)",
    )


def test_when_all_replicas_fail_the_last_failure_is_told(door):
    door.route("cats", dead=1)
    code, text = door.refused(PREDICT, predict("cats"))
    assert code == "UNAVAILABLE"
    assert text.startswith("Service cats has no replica that takes the call (failed to connect to all")


def test_a_new_service_is_known_at_once(door, serve, classifier):
    door.route("cats", serve({"cats": classifier()}))
    assert scores(door.call(PREDICT, predict("cats"))) == TWO


def test_a_replica_that_takes_the_place_of_another_is_found_within_the_call(door, serve, classifier):
    """No call fails when the only replica is replaced: the routes are read again before it is given up."""
    first, second = (serve({"cats": classifier()}) for _ in range(2))
    door.route("cats", first)
    assert scores(door.call(PREDICT, predict("cats"))) == TWO
    door.route("cats", second)
    first.server.stop()
    assert scores(door.call(PREDICT, predict("cats"))) == TWO


def test_a_call_in_flight_ends_well_though_its_replica_is_not_routed_any_more(door, serve, classifier):
    first, second = (serve({"cats": classifier()}) for _ in range(2))
    door.route("cats", first)
    call = door.channel.unary_unary(PREDICT.path, response_deserializer=PREDICT.response.FromString)
    future = call.future(predict("cats", [b"wait"]).SerializeToString(), timeout=20)
    session = first.sessions["cats"]
    assert session.running.acquire(timeout=10)
    door.route("cats", second)
    door.door._balancer.refresh()
    assert scores(door.call(PREDICT, predict("cats"))) == TWO
    session.released.set()
    assert scores(future.result())[0] == 4.0


def test_routes_that_are_not_well_formed_leave_the_old_ones(door, serve, classifier, caplog):
    door.route("cats", serve({"cats": classifier()}))
    assert scores(door.call(PREDICT, predict("cats"))) == TWO
    door.path.write_text("{")
    door.door._balancer.refresh()
    door.path.unlink()
    door.door._balancer.refresh()
    assert scores(door.call(PREDICT, predict("cats"))) == TWO
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2
    assert all(text.endswith("the routes stay as they were") for text in errors)


def test_it_does_not_start_without_well_formed_routes(tmp_path):
    with pytest.raises(FileError, match="must be readable, but No such file"):
        FrontDoor(tmp_path / "none.json")


def test_a_port_in_use_is_named_and_nothing_is_left_listening(tmp_path, door):
    with pytest.raises(ServingError, match=f"gRPC port {door.door.port} on 127.0.0.1 must be free"):
        FrontDoor(door.path, FrontDoorOptions(port=door.door.port, rest_port=0)).start()


def health(door, service):
    return door.call(HEALTH_CHECK, HEALTH_CHECK.request(service=service)).status


def test_health_is_of_the_front_door_and_of_each_service(door, serve, classifier):
    door.route("cats", serve({"cats": classifier()}))
    door.route("dogs")
    door.door._balancer.refresh()
    serving, not_serving = 1, 2
    assert health(door, "") == serving
    assert health(door, "tensorflow.serving.PredictionService") == serving
    assert health(door, "cats") == serving
    assert health(door, "dogs") == not_serving
    request = HEALTH_CHECK.request(service="birds")
    assert door.refused(HEALTH_CHECK, request) == ("NOT_FOUND", "Service birds is not known")
    assert door.get("/healthz") == (200, {"status": "SERVING"})


def test_a_service_whose_replicas_do_not_answer_is_not_healthy(door):
    door.route("cats", dead=1)
    door.refused(PREDICT, predict("cats"))
    assert health(door, "cats") == 2


def test_requests_over_the_limit_are_refused(tmp_path, serve, classifier):
    with opened(tmp_path, limits=Limits(request_bytes=1000)) as door:
        door.route("cats", serve({"cats": classifier()}, rest=True))
        assert door.refused(PREDICT, predict("cats", [bytes(2000)]))[0] == "RESOURCE_EXHAUSTED"
        assert door.get("/v1/models/cats:predict", bytes(2000)) == (
            413,
            {"error": "Request must have at most 1000 bytes, not 2000"},
        )


def test_calls_over_the_limit_are_refused(tmp_path, serve, classifier):
    session = classifier()
    with opened(tmp_path, limits=Limits(pending=1)) as door:
        door.route("cats", serve({"cats": session}))
        call = door.channel.unary_unary(PREDICT.path)
        future = call.future(predict("cats", [b"wait"]).SerializeToString(), timeout=20)
        assert session.running.acquire(timeout=10)
        assert door.refused(PREDICT, predict("cats")) == (
            "UNAVAILABLE",
            "The server has 1 predictions pending already; try again",
        )
        session.released.set()
        future.result()


def test_when_it_stops_it_finishes_what_is_in_flight(tmp_path, serve, classifier):
    session = classifier()
    with opened(tmp_path) as door:
        door.route("cats", serve({"cats": session}))
        call = door.channel.unary_unary(PREDICT.path, response_deserializer=PREDICT.response.FromString)
        future = call.future(predict("cats", [b"wait"]).SerializeToString(), timeout=20)
        assert session.running.acquire(timeout=10)
        stopping = threading.Thread(target=door.door.stop)
        stopping.start()
        deadline = time.monotonic() + 10
        while health(door, "") == 1 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert door.refused(PREDICT, predict("cats")) == ("UNAVAILABLE", "The server is stopping")
        session.released.set()
        assert scores(future.result())[0] == 4.0
        stopping.join(10)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", door.door.port), 1).close()


@pytest.mark.parametrize("name", ["cats", "classifier"])
def test_rest_goes_by_the_name_in_its_path(zoo, name):
    body = json.dumps({"instances": [{"b64": "eHk="}]}).encode()
    assert zoo.get(f"/v1/models/{name}:predict", body) == (200, {"predictions": [[2.0, 1.0, 0.6666667]]})
    assert zoo.get(f"/v1/models/{name}/labels") == (200, {"labels": ["cat", "dog", "bird"]})
    assert zoo.get(f"/v1/models/{name}/metadata")[1]["model_spec"]["name"] == "cats"
    status, document = zoo.get(f"/v1/models/{name}/versions/1")
    assert (status, document["model_version_status"][0]["state"]) == (200, "AVAILABLE")


def test_rest_goes_by_its_header_too(zoo):
    assert zoo.get("/v1/models/classifier", headers={ROUTE: "/api/v1/service/cats"}.items())[0] == 200
    assert zoo.get("/v1/models/cats", headers={ROUTE: "birds"}.items()) == (
        404,
        {"error": "Service birds is not known; services: cats, sums"},
    )


def test_rest_errors_of_servers_are_passed_on(zoo):
    assert zoo.get("/v1/models/cats:predict", b"{}") == (
        400,
        {"error": "Missing 'inputs' or 'instances' key"},
    )
    assert zoo.get("/v1/models/cats/versions/9")[0] == 404
    assert zoo.get("/v1/models/cats:classify", b"{}")[0] == 501


def test_rest_refuses_what_it_cannot_route(zoo):
    assert zoo.get("/v1/models/birds") == (
        404,
        {"error": "Servable not found for request: Latest(birds); services: cats, sums"},
    )
    for path in ("/", "/v1/models/", "/v1/models", "/v2/models/cats"):
        assert zoo.get(path) == (400, {"error": f"Malformed request: GET {path}"})


def test_rest_leaves_out_what_is_not_there(door, serve, classifier):
    door.route("cats", serve({"cats": classifier()}, rest=True), dead=1)
    for _ in range(5):
        assert door.get("/v1/models/cats")[0] == 200
    door.route("cats", dead=1)
    door.door._balancer.refresh()
    assert door.get("/v1/models/cats") == (
        503,
        {"error": "Service cats has no replica that takes the call ([Errno 111] Connection refused)"},
    )


def test_a_connection_that_breaks_over_rest_is_tried_elsewhere(door, serve, classifier):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = serve({"cats": classifier()}, rest=True)
        door.route("cats", running)
        broken = {"address": NOWHERE, "rest_address": f"127.0.0.1:{listener.getsockname()[1]}"}
        door.services["cats"]["replicas"].insert(0, broken)
        door.write()
        door.door._balancer.refresh()

        def hang_up():
            with suppress(OSError):
                listener.accept()[0].close()

        threading.Thread(target=hang_up).start()
        assert door.get("/v1/models/cats")[0] == 200


def test_many_calls_while_replicas_come_and_go(door, serve, classifier):
    """Under load, with the routes written again and again, no call fails."""
    stable, coming = (serve({"cats": classifier()}) for _ in range(2))
    door.route("cats", stable)
    failures, done = [], threading.Event()

    def ask():
        with door.client(model="cats") as client:
            while not done.is_set():
                try:
                    client.predict({"images": [b"xy"]})
                except ServingError as error:
                    failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(15):
        door.route("cats", *((stable, coming), (coming,), (stable,))[turn % 3], dead=turn % 2)
        time.sleep(0.06)
    done.set()
    for thread in threads:
        thread.join(20)
    assert failures == []
