"""Stands for `azureml.exceptions`: the old classes, raised where Gatecast raises its own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from gatecast.errors import GatecastError


class AzureMLException(GatecastError):
    """Base class of the old SDK's errors.

    Parameters
    ----------
    message : str
    inner_exception : Exception, optional
        What Gatecast itself raised.
    """

    def __init__(
        self, message: str, inner_exception: Exception | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint)
        self.message = message
        self.inner_exception = inner_exception

    def __str__(self) -> str:
        response = json.dumps({"error": {"message": self.message}}, indent=4)
        return (
            f"{type(self).__name__}:\n\tMessage: {self.message}\n\tInnerException {self.inner_exception}"
            f"\n\tErrorResponse \n{response}"
        )


class WorkspaceException(AzureMLException):
    """A workspace that is not as it must be."""


class UserErrorException(AzureMLException):
    """A mistake of the caller."""


class ModelNotFoundException(AzureMLException):
    """A model that is not registered."""


class ComputeTargetException(AzureMLException):
    """A compute target that cannot be made or used."""


class WebserviceException(AzureMLException):
    """Anything about models, images and services. `status_code` is HTTP's, None if there is none."""

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        inner_exception: Exception | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, inner_exception, hint)
        self.status_code = status_code


@contextmanager
def as_old(kind: type[AzureMLException], prefix: str = "") -> Iterator[None]:
    """Raise `kind` for any error of Gatecast's within the block; its text and hint stay."""
    try:
        yield
    except AzureMLException:
        raise
    except GatecastError as error:
        message = f"{prefix}{error}. {error.hint}"
        raise kind(message, inner_exception=error, hint=error.hint) from error
