"""The gRPC face of a front door: passes requests and answers on as bytes."""

import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from gatecast.errors import ServingError
from gatecast.protocol import (
    GET_LABELS,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    HEALTH_CHECK,
    PREDICT,
    GetModelStatusRequest,
    HealthCheckResponse,
    Method,
    ModelSpec,
)
from gatecast.serving.balancer import Balancer, Replica
from gatecast.serving.gate import Gate
from gatecast.serving.grpc_api import ROUTE_HEADER, UNOFFERED, abort, unoffered
from gatecast.serving.health import Health
from gatecast.serving.refusal import Code, RefusalError
from gatecast.serving.routes import Route

logger = logging.getLogger(__name__)

Metadata = Sequence[tuple[str, str | bytes]]

# What a connection sets for itself.
_OWN_METADATA = ("user-agent", "grpc-accept", "grpc-encoding", "grpc-timeout", "content-type")
# No replica took the call, or one that stopped let it go: a prediction changes nothing, so ask another.
_ELSEWHERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class GrpcProxy(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio ships no types
    """All remote calls of a front door, by path.

    Parameters
    ----------
    balancer : Balancer
        Knows the services and their replicas.
    health : Health
        Whether the front door takes calls.
    gate : Gate
        Limits them.
    timeout_s : float
        Longest time for an answer; the caller's deadline may be sooner.
    """

    def __init__(self, balancer: Balancer, health: Health, gate: Gate, timeout_s: float) -> None:
        self._balancer = balancer
        self._health = health
        self._gate = gate
        self._timeout_s = timeout_s
        forwarded = (PREDICT, GET_MODEL_METADATA, GET_MODEL_STATUS, GET_LABELS)
        self._handlers = {
            **{method.path: _handler(method, self._forwarder(method.path)) for method in forwarded},
            HEALTH_CHECK.path: _handler(HEALTH_CHECK, self._check),
            **{path: unoffered(path) for path in UNOFFERED},
        }

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler for a call, or None."""
        return self._handlers.get(handler_call_details.method)

    def _forwarder(self, path: str) -> Callable[[bytes, Any], bytes]:
        def forward(data: bytes, context: Any) -> bytes:
            metadata = context.invocation_metadata()
            header = dict(metadata).get(ROUTE_HEADER)
            with self._gate.passing():
                model = _named_model(data)
                route = self._balancer.route(header, model)
                if route.renames(model):
                    data += _naming(route.service)
                return self._answered(path, route, data, _without_own(metadata), context)

        return forward

    def _answered(self, path: str, route: Route, data: bytes, metadata: Any, context: Any) -> bytes:
        """Return the answer, or raise the refusal, of the first replica that takes the call."""
        failure = "none"
        with closing(self._balancer.candidates(route.service)) as candidates:
            for replica in candidates:
                call = self._call(replica, path, data, metadata, context)
                code = call.code()  # waits for the end of the call
                if code not in _ELSEWHERE or not context.is_active():
                    return _passed_on(call, code, context)
                failure = call.details()
                replica.leave_out()
                logger.warning("%s: replica %s: %s", route.service, replica.where.address, failure)
        raise RefusalError(
            Code.UNAVAILABLE, f"Service {route.service} has no replica that takes the call ({failure})"
        )

    def _call(self, replica: Replica, path: str, data: bytes, metadata: Any, context: Any) -> Any:
        remaining_s = context.time_remaining()  # without a deadline None, or centuries
        timeout_s = self._timeout_s if remaining_s is None else min(remaining_s, self._timeout_s)
        call = replica.method(path).future(data, timeout=timeout_s, metadata=metadata)
        if not context.add_callback(call.cancel):
            call.cancel()  # the caller went away already
        return call

    def _check(self, data: bytes, context: Any) -> bytes:
        service = HEALTH_CHECK.request.FromString(data).service
        is_service = service in self._balancer.routes.services
        if not (is_service or self._health.knows(service)):
            raise RefusalError(Code.NOT_FOUND, f"Service {service} is not known")
        ready = self._health.ready and (not is_service or self._balancer.is_up(service))
        answer: bytes = HealthCheckResponse(status="SERVING" if ready else "NOT_SERVING").SerializeToString()
        return answer


class _RefusedError(ServingError):
    """A replica's refusal, on its way to the caller."""

    def __init__(self, status: Any, details: str) -> None:
        super().__init__(details)
        self.status = status


def _handler(method: Method, answer: Callable[[bytes, Any], bytes]) -> Any:
    def call(data: bytes, context: Any) -> Any:
        try:
            return answer(data, context)
        except DecodeError:
            abort(context, Code.INVALID_ARGUMENT, f"Request must be a {method.request.DESCRIPTOR.full_name}")
        except RefusalError as error:
            context.send_initial_metadata(_identified(()))
            abort(context, error.code, str(error), error.hint)
        except _RefusedError as error:
            context.abort(error.status, str(error))
        except Exception as error:
            logger.exception("%s failed", method.path)
            abort(context, Code.INTERNAL, f"Internal error ({type(error).__name__}); see the server's log")

    return grpc.unary_unary_rpc_method_handler(call)


def _passed_on(call: Any, code: Any, context: Any) -> bytes:
    """Give the caller what a replica said."""
    context.send_initial_metadata(_identified(call.initial_metadata()))
    context.set_trailing_metadata(_without_own(call.trailing_metadata()))
    if code is not grpc.StatusCode.OK:
        raise _RefusedError(code, call.details())
    answer: bytes = call.result()
    return answer


def _identified(metadata: Metadata) -> Metadata:
    """Return initial metadata with a request's id, which the original clients print."""
    kept = _without_own(metadata)
    return kept if any(key == "request_id" for key, _ in kept) else (("request_id", str(uuid.uuid4())), *kept)


def _without_own(metadata: Metadata) -> Metadata:
    """Return metadata without what each connection sets for itself."""
    return tuple((key, value) for key, value in metadata if not key.startswith(_OWN_METADATA))


def _named_model(data: bytes) -> str:
    """Return the model that a request names; each of them has the model spec where this message has it."""
    name: str = GetModelStatusRequest.FromString(data).model_spec.name
    return name


def _naming(model: str) -> bytes:
    """Return bytes that make a request name another model: of a field that comes twice the last counts."""
    added: bytes = GetModelStatusRequest(model_spec=ModelSpec(name=model)).SerializeToString()
    return added
