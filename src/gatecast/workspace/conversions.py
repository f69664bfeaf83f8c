"""Conversions: from a registered model to a quantised one, in the background."""

from .models import Models
from .operations import Operation, Operations
from .store import Store


class Conversions:
    """The conversions of a workspace; each is an `Operation` of kind ``convert``."""

    def __init__(self, store: Store, models: Models, operations: Operations) -> None:
        self._store = store
        self._models = models
        self._operations = operations

    def list(self) -> list[Operation]:
        """Return the conversions, the newest first."""
        return self._operations.list("convert")
