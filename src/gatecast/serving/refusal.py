"""An answer that is not a prediction: a code that both faces know, and a text."""

from enum import IntEnum

from gatecast.errors import RequestError, ServingError


class Code(IntEnum):
    """Why a request is refused; the numbers are gRPC's."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14

    @property
    def http_status(self) -> int:
        """The HTTP status that TensorFlow Serving sends for it."""
        return _HTTP_STATUS[self]


_HTTP_STATUS = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
}


class RefusalError(ServingError):
    """A request that gets no prediction; `code` says why. The hint is empty unless it is given."""

    default_hint = ""

    def __init__(self, code: Code, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.code = code


class UnknownSignatureError(RefusalError):
    """The model has no signature of that name; the two faces say so in different words."""

    def __init__(self, signature_name: str) -> None:
        super().__init__(Code.FAILED_PRECONDITION, f'Serving signature key "{signature_name}" not found.')
        self.signature_name = signature_name


def refusal_of(error: RefusalError | RequestError) -> RefusalError:
    """Return the refusal for what a caller did wrong."""
    if isinstance(error, RefusalError):
        return error
    return RefusalError(Code.INVALID_ARGUMENT, str(error), error.hint)
