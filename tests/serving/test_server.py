import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest

from gatecast.errors import FileError, ServingError
from gatecast.protocol import HEALTH_CHECK, PREDICT, encode_tensor
from gatecast.serving import ModelSource, Server, ServerOptions


@pytest.fixture
def source(tmp_path):
    (tmp_path / "x.gcast").touch()
    return ModelSource("m", tmp_path / "x.gcast")


@pytest.fixture
def taken():
    """A port on which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


SERVING, NOT_SERVING = 1, 2


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def health(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(HEALTH_CHECK.path, response_deserializer=HEALTH_CHECK.response.FromString)
        return call(b"", timeout=20).status


def test_it_listens_on_this_machine_only_unless_told_otherwise():
    assert ServerOptions().host == "127.0.0.1"
    assert (ServerOptions().port, ServerOptions().rest_port) == (8500, 8501)


def test_free_ports_are_chosen_and_freed(source, classifier):
    with Server([source], lambda path: classifier(), ServerOptions(port=0, rest_port=0)) as server:
        ports = (server.port, server.rest_port)
        assert server.ready
        assert not any(is_free(port) for port in ports)
    assert not server.ready
    assert all(is_free(port) for port in ports)


def test_rest_may_be_left_out(source, classifier):
    with Server([source], lambda path: classifier(), ServerOptions(port=0, rest_port=None)) as server:
        assert server.rest_port is None
        assert health(server.port) == SERVING


def test_ipv6_loopback(source, classifier):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("This machine has no IPv6 loopback")
    with Server([source], lambda path: classifier(), ServerOptions("::1", 0, 0)) as server:
        assert urllib.request.urlopen(f"http://[::1]:{server.rest_port}/healthz", timeout=20).status == 200


@pytest.mark.parametrize(("face", "option"), [("gRPC", "--port"), ("REST", "--rest_api_port")])
def test_a_port_in_use_is_named_with_a_way_out(source, classifier, taken, face, option):
    ports = {"port": taken, "rest_port": 0} if face == "gRPC" else {"port": 0, "rest_port": taken}
    with pytest.raises(ServingError) as error:
        Server([source], lambda path: classifier(), ServerOptions(**ports)).start()
    assert str(error.value) == (
        f"{face} port {taken} on 127.0.0.1 must be free to listen on, but it is in use"
    )
    assert error.value.hint == (
        f"Stop what listens there, or choose another port with {option} (0 takes a free one)."
    )


def test_two_servers_do_not_share_a_port(source, classifier):
    with Server([source], lambda path: classifier(), ServerOptions(port=0, rest_port=None)) as first:
        with pytest.raises(ServingError, match=f"gRPC port {first.port} "):
            Server(
                [source], lambda path: classifier(), ServerOptions(port=first.port, rest_port=None)
            ).start()
        assert health(first.port) == SERVING


def test_a_host_that_is_not_ours_is_named(source, classifier):
    with pytest.raises(
        ServingError, match="gRPC port 0 on 192.0.2.1 must be free to listen on, but cannot assign"
    ):
        Server([source], lambda path: classifier(), ServerOptions("192.0.2.1", 0, None)).start()


def test_a_host_that_is_no_address_is_named(source, classifier):
    with pytest.raises(ServingError, match="Host must be an address of this machine, not 'no such host'"):
        Server([source], lambda path: classifier(), ServerOptions("no such host", 0, 0)).start()


def test_a_model_that_cannot_be_loaded_leaves_nothing_listening(source):
    def fail(path):
        raise FileError(f"{path.name} must be a Gatecast artifact, not empty")

    server = Server([source], fail, ServerOptions(port=0, rest_port=0))
    with pytest.raises(FileError, match="must be a Gatecast artifact"):
        server.start()
    assert is_free(server.port)
    assert is_free(server.rest_port)


def test_it_is_not_ready_while_models_load(source, classifier):
    opening, go_on = threading.Event(), threading.Event()

    def slow(path):
        opening.set()
        assert go_on.wait(20)
        return classifier()

    server = Server([source], slow, ServerOptions(port=0, rest_port=None))
    start = threading.Thread(target=server.start)
    start.start()
    assert opening.wait(10)
    assert health(server.port) == NOT_SERVING
    go_on.set()
    start.join(10)
    assert health(server.port) == SERVING
    server.stop()


def predict(channel, picture=b"1"):
    """Return the answer to come; it must be kept, or the call is cancelled."""
    request = PREDICT.request()
    encode_tensor(request.inputs["images"], [picture])
    call = channel.unary_unary(PREDICT.path, response_deserializer=PREDICT.response.FromString)
    return call.future(request.SerializeToString(), timeout=20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_in_flight_and_ends_well(source, number):
    script = Path(__file__).with_name("served_by_signal.py")
    process = subprocess.Popen(
        [sys.executable, script, source.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process, contextlib.ExitStack() as cleanup:
        cleanup.callback(process.kill)  # a server that hangs fails the test and does not hold it up
        port, rest_port = (int(word) for word in process.stdout.readline().split())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = predict(channel)
            assert process.stdout.readline() == "running\n"
            process.send_signal(number)
            deadline = time.monotonic() + 20
            while health(port) == SERVING:
                assert time.monotonic() < deadline, "the server took no notice of the signal"
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(f"http://127.0.0.1:{rest_port}/healthz", timeout=20)
            refused = predict(channel).exception()
            assert (refused.code(), refused.details()) == (
                grpc.StatusCode.UNAVAILABLE,
                "The server is stopping",
            )
            process.stdin.write("go on\n")
            process.stdin.flush()
            assert list(answer.result().outputs["scores"].float_val) == [1.0]
        assert process.wait(20) == 0
        assert process.stdout.read() == "closed\nended\n"


def test_what_takes_longer_than_the_grace_is_left_behind(source, classifier, caplog):
    session = classifier()
    server = Server([source], lambda path: session, ServerOptions(port=0, rest_port=None, grace_s=0.05))
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        answer = predict(channel, b"wait")
        assert session.running.acquire(timeout=10)
        server.stop()
        assert caplog.messages == ["Predictions still run after 0.05 s; their models stay loaded"]
        assert not session.closed
        assert answer.exception().code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        session.released.set()
