"""What each REST face does with a request: its health, and errors as JSON."""

import json
import logging
from abc import ABC, abstractmethod

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gatecast.errors import RequestError
from gatecast.serving.health import Health
from gatecast.serving.refusal import Code, RefusalError, UnknownSignatureError, refusal_of
from gatecast.serving.rest_bodies import TOO_LARGE, BodyError, error_response, json_response, send_lingering

logger = logging.getLogger(__name__)

UNAVAILABLE = 503


class RestFace(ABC):
    """Base of an ASGI application: all paths and methods."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every error is JSON with the key `error`."""
        response = await self._respond(Request(scope, receive))
        if response.status_code == TOO_LARGE:
            await send_lingering(response, scope, receive, send)
        else:
            await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("latin-1")
        try:
            if request.method == "GET" and path == "/healthz":
                ready = self._health.ready
                status = "SERVING" if ready else "NOT_SERVING"
                return json_response(json.dumps({"status": status}), 200 if ready else UNAVAILABLE)
            return await self._answer(request, path)
        except UnknownSignatureError as error:
            text = f'Serving signature name: "{error.signature_name}" not found in signature def'
            return error_response(error.code.http_status, text)
        except (RefusalError, RequestError) as error:
            return error_response(refusal_of(error).code.http_status, str(error))
        except BodyError as error:
            return error_response(error.status, str(error))
        except ClientDisconnect:
            return error_response(Code.CANCELLED.http_status, "The caller went away")
        except Exception as error:
            logger.exception("%s %s failed", request.method, path)
            return error_response(500, f"Internal error ({type(error).__name__}); see the server's log")

    @abstractmethod
    async def _answer(self, request: Request, path: str) -> Response:
        """Answer a request for something else than health, or raise why not."""
