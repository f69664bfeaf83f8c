"""The REST face: TensorFlow Serving's paths and JSON, and the labels, over the data plane."""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from google.protobuf import json_format
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from gatecast.errors import RequestError
from gatecast.protocol import ModelSpec
from gatecast.serving.binding import Spec, Target
from gatecast.serving.data_plane import DataPlane
from gatecast.serving.descriptions import signature_map, status_response
from gatecast.serving.health import Health
from gatecast.serving.refusal import Code, RefusalError
from gatecast.serving.rest_bodies import json_response, read_body
from gatecast.serving.rest_face import RestFace
from gatecast.serving.rest_json import format_outputs, parse_body, parse_inputs, request_form

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
_ACTION = re.compile(_MODEL + r":(?P<action>classify|regress|predict)", re.IGNORECASE)
_ABOUT = re.compile(_MODEL + r"(?:/(?P<about>metadata|labels))?", re.IGNORECASE)


class RestApi(RestFace):
    """The ASGI application: all paths and methods."""

    def __init__(self, plane: DataPlane, health: Health) -> None:
        super().__init__(health)
        self._plane = plane
        self._about: dict[str, Callable[[Spec], str]] = {
            "": self._status,
            "metadata": self._metadata,
            "labels": self._labels,
        }

    async def _answer(self, request: Request, path: str) -> Response:
        if request.method == "POST" and (match := _ACTION.fullmatch(path)):
            if (action := match["action"].lower()) != "predict":
                raise RefusalError(Code.UNIMPLEMENTED, f"{action} is not offered; use predict")
            body = await read_body(request, self._plane.limits.request_bytes, self._plane.limits.timeout_s)
            return json_response(await run_in_threadpool(self._predict, _spec(match), body))
        if request.method == "GET" and path.lower() in ("/v1/models", "/v1/models/"):
            raise RequestError("Missing model name in request.")
        if request.method == "GET" and (match := _ABOUT.fullmatch(path)):
            return json_response(self._about[(match["about"] or "").lower()](_spec(match)))
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
