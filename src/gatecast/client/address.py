"""Addresses of servers: ``HOST``, ``HOST:PORT`` or ``http://HOST:PORT/``; IPv6 bare or in brackets."""

from dataclasses import dataclass

from gatecast.errors import ServingError

_SCHEME_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """What an address says.

    Parameters
    ----------
    host : str
        IPv6 without brackets.
    port : int, optional
        None if it is not said.
    scheme_port : int, optional
        The port that ``http`` or ``https`` means; None without a scheme.
    """

    host: str
    port: int | None
    scheme_port: int | None

    @property
    def is_secure(self) -> bool:
        """Whether the scheme is ``https``."""
        return self.scheme_port == _SCHEME_PORTS["https"]

    def target(self, port: int) -> str:
        """Return host and port as gRPC takes them."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{port}"


def read_address(text: str) -> Address:
    """Read an address; ServingError if it is empty, or says more than a server."""
    scheme, found, rest = text.partition("://")
    server = rest.rstrip("/") if found else text
    if (found and scheme not in _SCHEME_PORTS) or "/" in server or (found and not server):
        raise ServingError(f"Address must be HOST, HOST:PORT or http://HOST:PORT/, not {text}")
    host, colon, port = server.rpartition(":")
    has_port = bool(colon and host) and port.isdecimal() and (":" not in host or host.endswith("]"))
    host = (host if has_port else server).removeprefix("[").removesuffix("]")
    if not host:
        raise ServingError("Address must be HOST or HOST:PORT, not empty")
    return Address(host, int(port) if has_port else None, _SCHEME_PORTS[scheme] if found else None)
