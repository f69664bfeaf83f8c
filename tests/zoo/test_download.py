"""Downloads against a server on loopback that misbehaves on request."""

import hashlib
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from gatecast.errors import DownloadError
from gatecast.zoo import Limits, UnreachableError, download, file_sha256

CONTENT = np.random.default_rng(3).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Limits(connect_s=1.0, stall_s=0.3, attempts=3, pause_s=0.01)


class Handler(BaseHTTPRequestHandler):
    """Answers as the next word of the server's script says; ``whole`` when there is none left."""

    def do_GET(self):
        self.server.seen.append(dict(self.headers))
        word = self.server.script.pop(0) if self.server.script else "whole"
        getattr(self, f"reply_{word}")()

    def start(self):
        wanted = self.headers.get("Range", "bytes=0-")
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def head(self, start, length=None):
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start if length is None else length))
        self.send_header("ETag", '"1"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()

    def reply_whole(self):
        start = self.start()
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.head(start)
        self.wfile.write(CONTENT[start:])

    def reply_cut(self):
        start = self.start()
        self.head(start)
        self.wfile.write(CONTENT[start : start + 100_000])

    def reply_stall(self):
        start = self.start()
        self.head(start)
        self.wfile.write(CONTENT[start : start + 50_000])
        self.wfile.flush()
        self.server.end.wait(5)

    def reply_silent(self):
        self.server.end.wait(5)

    def reply_noranges(self):
        self.head(0)
        self.wfile.write(CONTENT)

    def reply_unsized(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONTENT)

    def reply_huge(self):
        self.head(0, length=2**40)

    def reply_wrong(self):
        self.head(0)
        self.wfile.write(bytes(len(CONTENT)))

    def reply_missing(self):
        self.send_error(404)

    def reply_broken(self):
        self.send_error(503)

    def reply_away(self):
        self.send_response(302)
        self.send_header("Location", "http://example.invalid/file")
        self.end_headers()

    def reply_moved(self):
        self.send_response(302)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.script, server.seen, server.end = [], [], threading.Event()
    server.address = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.end.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def fetch(server, target, **options):
    return download(server.address, target, limits=QUICK, **options)


def test_a_whole_file_arrives_with_its_digest_and_progress(server, tmp_path):
    target, steps = tmp_path / "deep" / "file", []
    assert fetch(server, target, sha256=SHA256, progress=lambda *step: steps.append(step)) == SHA256
    assert target.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert os.listdir(target.parent) == ["file"]


@pytest.mark.parametrize("sha256", ["", SHA256[:8], SHA256.upper()])
def test_a_digest_may_be_absent_or_short_or_in_capitals(server, tmp_path, sha256):
    assert fetch(server, tmp_path / "file", sha256=sha256) == SHA256 == file_sha256(tmp_path / "file")


def test_a_cut_transfer_is_resumed_where_it_broke(server, tmp_path):
    server.script = ["cut", "cut"]
    assert fetch(server, tmp_path / "file", sha256=SHA256) == SHA256
    assert [seen.get("Range") for seen in server.seen] == [None, "bytes=100000-", "bytes=200000-"]
    assert server.seen[1]["If-Range"] == '"1"'


def test_a_part_from_an_earlier_call_is_resumed_if_a_digest_can_prove_it(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:123_456])
    assert fetch(server, tmp_path / "file", sha256=SHA256[:8]) == SHA256
    assert server.seen[0]["Range"] == "bytes=123456-"


def test_a_part_without_a_digest_is_not_trusted(server, tmp_path):
    (tmp_path / "file.part").write_bytes(b"something else")
    assert fetch(server, tmp_path / "file") == SHA256
    assert "Range" not in server.seen[0]


def test_a_part_that_is_already_whole_is_taken(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "file", sha256=SHA256) == SHA256


def test_a_part_that_is_too_long_is_started_again(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    assert fetch(server, tmp_path / "file", sha256=SHA256) == SHA256
    assert "Range" not in server.seen[1]


def test_a_server_without_ranges_sends_all_of_it_again(server, tmp_path):
    server.script = ["cut", "noranges"]
    assert fetch(server, tmp_path / "file", sha256=SHA256, size=len(CONTENT)) == SHA256
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_stalled_transfer_is_resumed(server, tmp_path):
    server.script = ["stall"]
    assert fetch(server, tmp_path / "file", sha256=SHA256) == SHA256
    assert server.seen[1]["Range"] == "bytes=50000-"


@pytest.mark.parametrize("word", ["stall", "silent", "cut", "broken"])
def test_a_server_that_keeps_failing_is_given_up_in_bounded_time(server, tmp_path, word):
    server.script = [word] * 20
    if word == "cut":
        server.script = ["cut", "stall", "broken"]
    start = time.monotonic()
    with pytest.raises(DownloadError, match="given up after 3 attempts"):
        fetch(server, tmp_path / "file", sha256=SHA256)
    assert time.monotonic() - start < 3
    assert len(server.seen) == 3
    assert not (tmp_path / "file").exists()


def test_what_arrived_is_kept_for_the_next_call(server, tmp_path):
    server.script = ["cut", "broken", "broken"]
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file.part").stat().st_size == 100_000
    assert fetch(server, tmp_path / "file", sha256=SHA256) == SHA256


def test_a_file_unlike_the_published_one_is_removed(server, tmp_path):
    server.script = ["wrong"]
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path / "file", sha256=SHA256)
    zeros = hashlib.sha256(bytes(len(CONTENT))).hexdigest()
    assert str(caught.value) == (
        f"{server.address} must have the SHA-256 {SHA256}, not {zeros}; it was not kept"
    )
    assert os.listdir(tmp_path) == []


def test_a_missing_file_is_not_asked_for_twice(server, tmp_path):
    server.script = ["missing"]
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path / "file")
    assert str(caught.value) == f"{server.address}: the server answers 404 Not Found"
    assert len(server.seen) == 1
    assert os.listdir(tmp_path) == []


def test_a_size_beyond_the_limit_is_refused_before_it_is_read(server, tmp_path):
    server.script = ["huge"]
    with pytest.raises(DownloadError, match="must have at most 2147483648 bytes, not 1099511627776"):
        fetch(server, tmp_path / "file")


def test_a_size_other_than_the_published_is_refused(server, tmp_path):
    with pytest.raises(DownloadError, match="must have 5 bytes, not 300000"):
        fetch(server, tmp_path / "file", size=5)
    assert fetch(server, tmp_path / "file", size=len(CONTENT)) == SHA256


def test_a_reply_without_a_size_is_taken_to_its_end(server, tmp_path):
    server.script = ["unsized"]
    assert fetch(server, tmp_path / "file", sha256=SHA256) == SHA256


def test_a_redirect_is_followed_but_never_to_plain_http_elsewhere(server, tmp_path):
    server.script = ["moved"]
    assert fetch(server, tmp_path / "file", sha256=SHA256) == SHA256
    server.script = ["away"]
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path / "file")
    assert str(caught.value) == "Address must begin with https://, not http://example.invalid/file"


@pytest.mark.parametrize("address", ["http://example.com/a", "file:///etc/passwd", "ftp://localhost/a", "a"])
def test_only_https_is_asked_for(tmp_path, address):
    with pytest.raises(DownloadError, match="Address must begin with https://, not "):
        download(address, tmp_path / "file")


def test_a_refused_connection_fails_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        download(f"http://127.0.0.1:{port}/file", tmp_path / "file", limits=QUICK)
    assert str(caught.value) == f"http://127.0.0.1:{port}/file: not reached: Connection refused"
    assert time.monotonic() - start < 1
    assert os.listdir(tmp_path) == []


def test_a_name_that_does_not_resolve_fails_at_once(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(UnreachableError) as caught:
        download("https://example.invalid/file", tmp_path / "file", limits=QUICK)
    assert str(caught.value) == (
        "https://example.invalid/file: not reached: the name example.invalid was not found: "
        "Name or service not known"
    )


def test_a_resolver_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: end.wait(5))
    start = time.monotonic()
    with pytest.raises(UnreachableError, match="the name example.invalid was not found in time"):
        download("https://example.invalid/file", tmp_path / "file", limits=QUICK)
    assert time.monotonic() - start < 2
    end.set()


def test_a_server_that_never_greets_is_not_waited_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as quiet:
        start = time.monotonic()
        with pytest.raises(UnreachableError, match="no connection within 1 s"):
            download(f"https://127.0.0.1:{quiet.getsockname()[1]}/a", tmp_path / "file", limits=QUICK)
        assert time.monotonic() - start < 2


def test_two_downloads_of_one_file_do_not_mix(server, tmp_path):
    server.script = ["stall"]
    errors = []
    patient = Limits(connect_s=1, stall_s=2, attempts=1)
    first = threading.Thread(
        target=lambda: errors.append(_failure(server, tmp_path / "file", patient)), daemon=True
    )
    first.start()
    while not server.seen:
        time.sleep(0.01)
    with pytest.raises(DownloadError, match="must be written by one process at a time"):
        fetch(server, tmp_path / "file", sha256=SHA256)
    server.end.set()
    first.join(5)
    assert "given up after 1 attempts" in str(errors[0])


def _failure(server, target, limits):
    try:
        download(server.address, target, sha256=SHA256, limits=limits)
    except DownloadError as error:
        return error
    return None


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "plain").write_text("a file")
    with pytest.raises(DownloadError, match=r"File .*plain/file must be writable: "):
        fetch(server, tmp_path / "plain" / "file")
