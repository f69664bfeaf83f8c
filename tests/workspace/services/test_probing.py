import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gatecast.workspace.probing import MOST_SILENCES, Prober


class NotReady(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def prober():
    prober = Prober(period_s=0.01, timeout_s=0.1)
    yield prober
    prober.close()


@pytest.fixture
def hanging():
    """The address of something that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def unready():
    """The address of a server that says that it is not ready."""
    server = HTTPServer(("127.0.0.1", 0), NotReady)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_only_what_hangs_is_silent_and_not_at_once(prober, hanging, unready):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = f"127.0.0.1:{closed.getsockname()[1]}"
    start = time.monotonic()
    prober.watch({"hangs": hanging, "unready": unready, "gone": refusing})
    while not prober.silent() and time.monotonic() < start + 20:
        time.sleep(0.01)
    assert time.monotonic() - start >= MOST_SILENCES * 0.1
    assert prober.silent() == {"hangs"}
    prober.watch({"unready": unready})
    assert prober.silent() == set()


def test_one_that_answers_again_is_not_silent(prober, hanging, unready):
    prober.watch({"one": hanging})
    deadline = time.monotonic() + 20
    while not prober.silent() and time.monotonic() < deadline:
        time.sleep(0.01)
    prober.watch({"one": unready})  # as if it were the same
    while prober.silent() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert prober.silent() == set()
