"""The REST face: TensorFlow Serving's paths and JSON, and the labels, over the data plane."""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from google.protobuf import json_format
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gatecast.errors import RequestError, ServingError
from gatecast.protocol import ModelSpec
from gatecast.serving.binding import Spec, Target
from gatecast.serving.data_plane import DataPlane
from gatecast.serving.descriptions import signature_map, status_response
from gatecast.serving.health import Health
from gatecast.serving.refusal import Code, RefusalError, UnknownSignatureError, refusal_of
from gatecast.serving.rest_json import format_outputs, parse_body, parse_inputs, request_form

logger = logging.getLogger(__name__)

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
_ACTION = re.compile(_MODEL + r":(?P<action>classify|regress|predict)", re.IGNORECASE)
_ABOUT = re.compile(_MODEL + r"(?:/(?P<about>metadata|labels))?", re.IGNORECASE)

TOO_LARGE = 413
TOO_SLOW = 408
LINGER_S = 2.0
"""How long the rest of a refused body is read and dropped: a caller who still sends would see a reset
connection instead of the answer."""


class RestApi:
    """The ASGI application: all paths and methods."""

    def __init__(self, plane: DataPlane, health: Health) -> None:
        self._plane = plane
        self._health = health
        self._about: dict[str, Callable[[Spec], str]] = {
            "": self._status,
            "metadata": self._metadata,
            "labels": self._labels,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every error is JSON with the key `error`."""
        response = await self._respond(Request(scope, receive))
        if response.status_code == TOO_LARGE:
            await _send_lingering(response, scope, receive, send)
        else:
            await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("latin-1")
        try:
            return await self._answer(request, path)
        except UnknownSignatureError as error:
            text = f'Serving signature name: "{error.signature_name}" not found in signature def'
            return _error(error.code.http_status, text)
        except (RefusalError, RequestError) as error:
            return _error(refusal_of(error).code.http_status, str(error))
        except _BodyError as error:
            return _error(error.status, str(error))
        except ClientDisconnect:
            return _error(Code.CANCELLED.http_status, "The caller went away")
        except Exception as error:
            logger.exception("%s %s failed", request.method, path)
            return _error(500, f"Internal error ({type(error).__name__}); see the server's log")

    async def _answer(self, request: Request, path: str) -> Response:
        if request.method == "POST" and (match := _ACTION.fullmatch(path)):
            if (action := match["action"].lower()) != "predict":
                raise RefusalError(Code.UNIMPLEMENTED, f"{action} is not offered; use predict")
            body = await _body(request, self._plane.limits.request_bytes, self._plane.limits.timeout_s)
            return _json(await run_in_threadpool(self._predict, _spec(match), body))
        if request.method == "GET" and path == "/healthz":
            ready = self._health.ready
            return _json(json.dumps({"status": "SERVING" if ready else "NOT_SERVING"}), 200 if ready else 503)
        if request.method == "GET" and path.lower() in ("/v1/models", "/v1/models/"):
            raise RequestError("Missing model name in request.")
        if request.method == "GET" and (match := _ABOUT.fullmatch(path)):
            return _json(self._about[(match["about"] or "").lower()](_spec(match)))
        raise RequestError(f"Malformed request: {request.method} {path}")

    def _predict(self, spec: Spec, body: bytes) -> str:
        document = parse_body(body)
        name = document.get("signature_name", "")
        if not isinstance(name, str):
            raise RequestError("'signature_name' key must be a string value.")
        target = self._plane.target(Spec(spec.name, spec.version, spec.label, name))
        inputs = parse_inputs(document, target.signature)
        return format_outputs(self._plane.run(target, inputs), request_form(document))

    def _status(self, spec: Spec) -> str:
        message = status_response(self._plane.statuses(spec))
        return json.dumps(_plain(message), indent=1)

    def _metadata(self, spec: Spec) -> str:
        target = self._plane.described(spec)
        model_spec = ModelSpec(name=target.version.name)
        model_spec.version.value = target.version.number
        return json.dumps(
            {"model_spec": _plain(model_spec), "metadata": {"signature_def": _plain(signature_map(target))}},
            indent=1,
        )

    def _labels(self, spec: Spec) -> str:
        target: Target = self._plane.described(spec)
        if not target.session.labels:
            raise RefusalError(Code.NOT_FOUND, f"Model {target.version.name} has no labels")
        return json.dumps({"labels": target.session.labels}, ensure_ascii=False)


class _BodyError(ServingError):
    """A body that was not read to its end."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def _body(request: Request, limit: int, timeout_s: float) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise _BodyError(TOO_LARGE, f"Request must have at most {limit} bytes, not {announced}")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _BodyError(TOO_LARGE, f"Request must have at most {limit} bytes, not more")
    except TimeoutError:
        raise _BodyError(TOO_SLOW, f"Request must arrive within {timeout_s:.3g} s") from None
    return bytes(body)


async def _send_lingering(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
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


def _spec(match: re.Match[str]) -> Spec:
    return Spec(
        name=unquote(match["name"]),
        version=None if match["version"] is None else int(match["version"]),
        label=None if match["label"] is None else unquote(match["label"]),
    )


def _plain(message: Any) -> Any:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _json(text: str, status: int = 200) -> Response:
    return Response(text + "\n", status, media_type="application/json")


def _error(status: int, text: str) -> Response:
    return _json(json.dumps({"error": text}), status)
