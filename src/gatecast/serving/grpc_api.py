"""The gRPC face: translates TensorFlow Serving's messages, and calls the data plane."""

import logging
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf.message import DecodeError

from gatecast.errors import RequestError
from gatecast.protocol import (
    GET_LABELS,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    HEALTH_CHECK,
    HINT_TRAILER,
    PREDICT,
    GetLabelsResponse,
    GetModelMetadataResponse,
    HealthCheckResponse,
    Method,
    PredictResponse,
    decode_tensor,
    dtype_name,
    encode_tensor,
)
from gatecast.serving.binding import Spec, Target, bind_names, check_batch, check_kinds
from gatecast.serving.data_plane import DataPlane, Limits
from gatecast.serving.descriptions import signature_map, status_response
from gatecast.serving.health import Health
from gatecast.serving.refusal import Code, RefusalError, refusal_of

logger = logging.getLogger(__name__)

ROUTE_HEADER = "x-ms-aml-grpc-service-route"
LONGEST_TEXT = 1024
LONGEST_HINT = 300
_PLAIN = " !#$&'()*+,/:;<=>?@[]^`{|}"
"""Characters that metadata may have as they are, besides letters and digits."""
_STATUS = {code.value[0]: code for code in grpc.StatusCode}
UNOFFERED = (
    "/tensorflow.serving.PredictionService/Classify",
    "/tensorflow.serving.PredictionService/Regress",
    "/tensorflow.serving.PredictionService/MultiInference",
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    "/grpc.health.v1.Health/Watch",
)

Answer = Callable[[Any, Any], Any]


class GrpcApi(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio ships no types
    """All remote calls of the server, by path."""

    def __init__(self, plane: DataPlane, health: Health) -> None:
        self._plane = plane
        self._health = health
        self._handlers = {
            PREDICT.path: _handler(PREDICT, self._predict),
            GET_MODEL_METADATA.path: _handler(GET_MODEL_METADATA, self._metadata),
            GET_MODEL_STATUS.path: _handler(GET_MODEL_STATUS, self._status),
            GET_LABELS.path: _handler(GET_LABELS, self._get_labels),
            HEALTH_CHECK.path: _handler(HEALTH_CHECK, self._check),
            **{path: unoffered(path) for path in UNOFFERED},
        }

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler for a call, or None."""
        return self._handlers.get(handler_call_details.method)

    def _predict(self, request: Any, context: Any) -> Any:
        plane = self._plane
        route = None
        if not request.model_spec.name:
            context.send_initial_metadata((("request_id", str(uuid.uuid4())),))
            route = dict(context.invocation_metadata()).get(ROUTE_HEADER)
        target = plane.target(_spec(request), route)
        outputs = plane.run(
            target,
            _inputs(request, target, plane.limits),
            request.output_filter,
            timeout_s=context.time_remaining(),
            is_wanted=context.is_active,
        )
        response = PredictResponse()
        _identify(response.model_spec, target)
        response.model_spec.signature_name = target.signature_name
        for name, values in outputs.items():
            encode_tensor(response.outputs[name], values)
        return response

    def _metadata(self, request: Any, context: Any) -> Any:
        _require_spec(request)
        if not request.metadata_field:
            raise RequestError("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise RequestError(f"Metadata field {field} is not supported")
        target = self._plane.described(_spec(request))
        response = GetModelMetadataResponse()
        _identify(response.model_spec, target)
        response.metadata["signature_def"].Pack(signature_map(target))
        return response

    def _status(self, request: Any, context: Any) -> Any:
        _require_spec(request)
        return status_response(self._plane.statuses(_spec(request)))

    def _get_labels(self, request: Any, context: Any) -> Any:
        target = self._plane.target(_spec(request))
        response = GetLabelsResponse(labels=target.session.labels)
        _identify(response.model_spec, target)
        return response

    def _check(self, request: Any, context: Any) -> Any:
        if not self._health.knows(request.service):
            raise RefusalError(Code.NOT_FOUND, f"Service {request.service} is not known")
        status = "SERVING" if self._health.ready else "NOT_SERVING"
        return HealthCheckResponse(status=status)


def _handler(method: Method, answer: Answer) -> Any:
    def call(data: bytes, context: Any) -> Any:
        try:
            return answer(method.request.FromString(data), context)
        except DecodeError:
            abort(context, Code.INVALID_ARGUMENT, f"Request must be a {method.request.DESCRIPTOR.full_name}")
        except (RefusalError, RequestError) as error:
            refusal = refusal_of(error)
            abort(context, refusal.code, str(refusal), refusal.hint)
        except Exception as error:
            logger.exception("%s failed", method.path)
            abort(context, Code.INTERNAL, f"Internal error ({type(error).__name__}); see the server's log")

    return grpc.unary_unary_rpc_method_handler(call, response_serializer=method.response.SerializeToString)


def unoffered(path: str) -> Any:
    """Return a handler that says that a call is not offered."""

    def call(data: bytes, context: Any) -> Any:
        abort(context, Code.UNIMPLEMENTED, f"{path.rpartition('/')[2]} is not offered; use Predict")

    return grpc.unary_unary_rpc_method_handler(call)


def abort(context: Any, code: Code, text: str, hint: str = "") -> None:
    """End a call with an error, as docs/spec/serving.md has it."""
    if len(text) > LONGEST_TEXT:
        text = text[:LONGEST_TEXT] + "...TRUNCATED"
    if hint:
        context.set_trailing_metadata(((HINT_TRAILER, quote(hint[:LONGEST_HINT], safe=_PLAIN)),))
    context.abort(_STATUS[int(code)], text)


def _spec(request: Any) -> Spec:
    spec = request.model_spec
    choice = spec.WhichOneof("version_choice")
    return Spec(
        name=spec.name,
        version=spec.version.value if choice == "version" else None,
        label=spec.version_label if choice == "version_label" else None,
        signature_name=spec.signature_name,
    )


def _require_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise RequestError("Missing ModelSpec")


def _inputs(request: Any, target: Target, limits: Limits) -> dict[str, Any]:
    bound = bind_names(target, list(request.inputs))
    kinds = {name: dtype_name(request.inputs[name].dtype) for name in bound}
    check_kinds(target, bound, kinds)
    shapes = {name: [dim.size for dim in request.inputs[name].tensor_shape.dim] for name in bound}
    check_batch(shapes, limits.batch)
    values = {}
    for name, kind in kinds.items():
        try:
            most = limits.batch if kind == "string" else limits.elements
            values[name] = decode_tensor(request.inputs[name], most)
        except RequestError as error:
            raise RequestError(f"tensor parsing error: {name} ({error})") from error
    return values


def _identify(spec: Any, target: Target) -> None:
    spec.name = target.version.name
    spec.version.value = target.version.number
