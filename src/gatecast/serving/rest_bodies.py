"""Bodies of REST requests, read within limits, and JSON answers."""

import asyncio
import contextlib
import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gatecast.errors import ServingError

TOO_LARGE = 413
TOO_SLOW = 408
LINGER_S = 2.0
"""How long the rest of a refused body is read and dropped: a caller who still sends would see a reset
connection instead of the answer."""


class BodyError(ServingError):
    """A body that was not read to its end."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def read_body(request: Request, limit: int, timeout_s: float) -> bytes:
    """Return the body of a request; BodyError if it is too large, or slow."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyError(TOO_LARGE, f"Request must have at most {limit} bytes, not {announced}")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise BodyError(TOO_LARGE, f"Request must have at most {limit} bytes, not more")
    except TimeoutError:
        raise BodyError(TOO_SLOW, f"Request must arrive within {timeout_s:.3g} s") from None
    return bytes(body)


async def send_lingering(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer before the request's end, and close once the caller has sent it or the time is over."""

    async def send_unfinished(message: Message) -> None:
        await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

    response.headers["connection"] = "close"
    await response(scope, receive, send_unfinished)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})


def json_response(text: str, status: int = 200) -> Response:
    """Return a response of one JSON document."""
    return Response(text + "\n", status, media_type="application/json")


def error_response(status: int, text: str) -> Response:
    """Return an error as JSON."""
    return json_response(json.dumps({"error": text}), status)
