import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from gatecast.client import CallError, GrpcTransport, MockTransport


class Echo(grpc.GenericRpcHandler):
    """Answers /echo/Bytes with the request, /echo/Header with a header, and refuses everything else.

    What is refused has the request itself as its hint.
    """

    def service(self, handler_call_details):
        metadata = dict(handler_call_details.invocation_metadata)
        answers = {
            "/echo/Bytes": lambda data, context: data,
            "/echo/Header": lambda data, context: metadata["authorization"].encode(),
        }
        return grpc.unary_unary_rpc_method_handler(answers.get(handler_call_details.method, _refuse))


def _refuse(data, context):
    context.set_trailing_metadata((("other", "x"), ("gatecast-hint", data.decode())))
    context.abort(grpc.StatusCode.ABORTED, "no such echo")


@pytest.fixture
def server():
    server = grpc.server(ThreadPoolExecutor(4), handlers=[Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def transport(server):
    transport = GrpcTransport(server)
    yield transport
    transport.close()


def test_bytes_and_headers_arrive(transport):
    assert transport.call("/echo/Bytes", b"\0abc", 10, ()) == b"\0abc"
    assert transport.call("/echo/Header", b"", 10, [("authorization", "Bearer k")]) == b"Bearer k"


def test_a_refusal_has_its_code_and_text(transport):
    with pytest.raises(CallError) as error:
        transport.call("/echo/Else", b"", 10, ())
    assert (error.value.code, str(error.value)) == ("ABORTED", "no such echo")


def test_answers_above_grpcs_four_megabytes_arrive(server, transport):
    big = bytes(3 << 20)
    assert transport.call("/echo/Bytes", big, 10, ()) == big


def test_a_closed_transport_opens_again(transport):
    transport.close()
    transport.close()
    assert transport.call("/echo/Bytes", b"a", 10, ()) == b"a"


@pytest.mark.parametrize(
    ("trailer", "hint"),
    [
        (b"Send%20gr%C3%B6%C3%9Fer.", "Send größer."),
        (b"a%0D%0A%1B[31m b", "a [31m b"),
        (b"%E2%80%AE%zz%ff", "%zz\N{REPLACEMENT CHARACTER}"),
        (b"x" * 1000, "x" * 300),
        (b"%00", None),
        (b"", None),
    ],
)
def test_the_hint_of_a_server_is_read_with_care(transport, trailer, hint):
    with pytest.raises(CallError) as error:
        transport.call("/echo/None", trailer, 10, ())
    assert error.value.told == hint
    assert error.value.hint == (hint or CallError.default_hint)


def test_threads_share_one_channel(transport):
    answers = {}

    def call(index):
        answers[index] = transport.call("/echo/Bytes", b"%d" % index, 10, ())

    threads = [threading.Thread(target=call, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {index: b"%d" % index for index in range(8)}


def test_the_mock_answers_and_remembers():
    mock = MockTransport(lambda path, request: request[::-1])
    assert mock.call("/a/B", b"12", 3.0, [("k", "v")]) == b"21"
    assert mock.calls == [("/a/B", b"12", 3.0, [("k", "v")])]
    mock.close()
