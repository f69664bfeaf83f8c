"""The REST face of a front door: passes requests and answers on, and answers for its health itself."""

import http.client
import logging
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote, unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from gatecast.errors import RequestError
from gatecast.serving.balancer import Balancer
from gatecast.serving.data_plane import Limits
from gatecast.serving.gate import Gate
from gatecast.serving.grpc_api import ROUTE_HEADER
from gatecast.serving.health import Health
from gatecast.serving.refusal import Code, RefusalError
from gatecast.serving.rest_bodies import read_body
from gatecast.serving.rest_face import UNAVAILABLE, RestFace
from gatecast.serving.routes import Route

logger = logging.getLogger(__name__)

_PATH = re.compile(r"(?P<before>/v1/models/)(?P<name>[^/:]+)(?P<after>[/:].*)?", re.IGNORECASE)
_PASSED_HEADERS = ("authorization", "content-type")


class RestProxy(RestFace):
    """The ASGI application: all paths and methods.

    Parameters
    ----------
    balancer : Balancer
        Knows the services and their replicas.
    health : Health
        Whether the front door takes requests.
    gate : Gate
        Limits them.
    limits : Limits
        Largest body, and the time for it to arrive.
    timeout_s : float
        For the answer.
    """

    def __init__(
        self, balancer: Balancer, health: Health, gate: Gate, limits: Limits, timeout_s: float
    ) -> None:
        super().__init__(health)
        self._balancer = balancer
        self._gate = gate
        self._limits = limits
        self._timeout_s = timeout_s

    async def _answer(self, request: Request, path: str) -> Response:
        match = _PATH.fullmatch(path)
        if request.method not in ("GET", "POST") or not match:
            raise RequestError(f"Malformed request: {request.method} {path}")
        model = unquote(match["name"])
        route = self._balancer.route(request.headers.get(ROUTE_HEADER), model)
        name = quote(route.service, safe="") if route.renames(model) else match["name"]
        body = await read_body(request, self._limits.request_bytes, self._limits.timeout_s)
        headers = {key: request.headers[key] for key in _PASSED_HEADERS if key in request.headers}
        asked = _Asked(request.method, f"{match['before']}{name}{match['after'] or ''}", body, headers)
        return await run_in_threadpool(self._forward, route, asked)

    def _forward(self, route: Route, asked: "_Asked") -> Response:
        failure = "none"
        with self._gate.passing(), closing(self._balancer.candidates(route.service)) as candidates:
            for replica in candidates:
                try:
                    status, kind, body = asked.of(replica.where.rest_address, self._timeout_s)
                except TimeoutError:
                    raise RefusalError(
                        Code.DEADLINE_EXCEEDED,
                        f"Service {route.service} did not answer within {self._timeout_s:.3g} s",
                    ) from None
                except (OSError, http.client.HTTPException) as error:
                    failure = str(error) or type(error).__name__
                else:
                    if status != UNAVAILABLE:
                        return Response(body, status, media_type=kind)
                    failure = body.decode(errors="replace").strip()
                replica.leave_out()
                logger.warning("%s: replica %s: %s", route.service, replica.where.rest_address, failure)
        raise RefusalError(
            Code.UNAVAILABLE, f"Service {route.service} has no replica that takes the call ({failure})"
        )


@dataclass(frozen=True)
class _Asked:
    """One request as a replica is to get it."""

    method: str
    target: str
    body: bytes
    headers: Mapping[str, str]

    def of(self, address: str, timeout_s: float) -> tuple[int, str, bytes]:
        """Ask a replica; return status, content type and body."""
        with closing(http.client.HTTPConnection(address, timeout=timeout_s)) as connection:
            connection.request(self.method, self.target, self.body or None, dict(self.headers))
            response = connection.getresponse()
            kind = response.getheader("content-type", "application/json")
            return response.status, kind, response.read()
