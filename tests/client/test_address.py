import pytest

from gatecast.client import Address, read_address
from gatecast.errors import ServingError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host", Address("host", None, None)),
        ("localhost:8500", Address("localhost", 8500, None)),
        ("::1", Address("::1", None, None)),
        ("fe80::50051", Address("fe80::50051", None, None)),  # digits at the end of IPv6 are no port
        ("[::1]", Address("::1", None, None)),
        ("[::1]:50051", Address("::1", 50051, None)),
        ("http://127.0.0.2/", Address("127.0.0.2", None, 80)),
        ("http://127.0.0.1:8512/", Address("127.0.0.1", 8512, 80)),
        ("https://[::1]/", Address("::1", None, 443)),
        ("host:name", Address("host:name", None, None)),  # refused by who looks the host up
    ],
)
def test_host_port_and_scheme_are_read(text, address):
    assert read_address(text) == address


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("::1", "[::1]:90"),
        ("[::1]:50051", "[::1]:90"),
        ("host:1", "host:90"),
        ("http://127.0.0.2/", "127.0.0.2:90"),
    ],
)
def test_a_target_has_brackets_around_ipv6_alone(text, target):
    assert read_address(text).target(90) == target


def test_only_https_is_secure():
    texts = ("https://host/", "http://host/", "host:443")
    assert [read_address(text).is_secure for text in texts] == [True, False, False]


@pytest.mark.parametrize("text", ["ftp://host/", "http://host/v1/models", "http://", "host/path"])
def test_more_than_a_server_is_refused(text):
    with pytest.raises(ServingError) as error:
        read_address(text)
    assert str(error.value) == f"Address must be HOST, HOST:PORT or http://HOST:PORT/, not {text}"


@pytest.mark.parametrize("text", ["", "[]", "[]:90"])
def test_a_host_is_needed(text):
    with pytest.raises(ServingError, match="Address must be HOST or HOST:PORT, not empty"):
        read_address(text)
