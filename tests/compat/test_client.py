import grpc
import numpy as np
import pytest

import gatecast.client
from gatecast.compat.client import PredictionClient, ScoringError, _dtype
from gatecast.errors import NotFoundError, RequestError, ServingError


@pytest.fixture
def asked(monkeypatch):
    """What the client of our own was made with and asked for."""
    seen = {}

    class Own:
        def __init__(self, *arguments, retry):
            seen["made"] = arguments

        def score_file(self, *arguments):
            if "error" in seen:
                raise seen["error"]
            seen["asked"] = arguments
            return np.ones(3)

        score_numpy_arrays = score_tensors = score_file

    monkeypatch.setattr(gatecast.client, "PredictionClient", Own)
    return seen


@pytest.mark.parametrize(
    "address, port, ssl, expected",
    [
        ("127.0.0.3", 80, False, 80),
        ("127.0.0.1:8512", 80, False, 8512),  # as the document parses a scoring_uri
        ("localhost:8500", 443, True, 8500),
        ("[::1]:50051", 80, False, 50051),
        ("::1", 80, False, 80),
        ("::1", None, True, 443),
        ("http://127.0.0.2/", None, False, 80),
        ("http://127.0.0.2:8512/", 80, False, 8512),
        ("https://host/", None, False, 443),
        ("host", None, False, 80),
        ("host", None, True, 443),
        ("host", 50051, False, 50051),
    ],
)
def test_a_port_in_the_address_wins(asked, address, port, ssl, expected):
    PredictionClient(address=address, port=port, use_ssl=ssl, service_name="s")
    assert asked["made"] == (address, expected, ssl, "", "s")


def test_an_address_is_needed():
    with pytest.raises(ValueError, match="address"):
        PredictionClient(None)


@pytest.mark.parametrize(
    "error, code",
    [
        (RequestError("bad"), grpc.StatusCode.INVALID_ARGUMENT),
        (NotFoundError("who"), grpc.StatusCode.NOT_FOUND),
        (gatecast.client.CallError("UNAVAILABLE", "gone"), grpc.StatusCode.UNAVAILABLE),
        (ServingError("odd"), grpc.StatusCode.UNKNOWN),
    ],
)
def test_errors_are_what_users_of_grpc_catch(asked, error, code):
    client = PredictionClient("host")
    asked["error"] = error
    for call in (
        lambda: client.score_file("picture"),
        lambda: client.score_numpy_arrays({}),
        lambda: client.score_tensors({}),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert (refused.value.code(), refused.value.details()) == (code, str(error))
        assert isinstance(refused.value, ScoringError)


def test_dtypes_are_numbers_or_objects_of_tensorflow():
    class DType:
        as_datatype_enum, as_numpy_dtype = 1, np.float32

    class String:
        as_datatype_enum = 7

    assert [_dtype(d) for d in (7, "string", String(), 1, DType(), 4)] == [
        *["string"] * 3,
        *["float32"] * 2,
        "uint8",
    ]
