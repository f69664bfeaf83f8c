"""What models, images, services and compute targets tell alike of their record in the workspace."""

from collections.abc import Mapping
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from .handle import Handle


class Kept(Protocol):
    """A record of Gatecast's."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def tags(self) -> Mapping[str, str]:
        """Words to find it by."""

    @property
    def properties(self) -> Mapping[str, str]:
        """What is said of it once and for all."""

    @property
    def description(self) -> str:
        """What it is."""

    @property
    def created_time(self) -> datetime:
        """When it was made, in UTC."""


KeptRecord = TypeVar("KeptRecord", bound=Kept)


class Recorded(Generic[KeptRecord]):
    """Something of a workspace, as its record was when it was last looked at."""

    workspace: Handle
    _record: KeptRecord

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def tags(self) -> dict[str, str]:
        """Words to find it by."""
        return dict(self._record.tags)

    @property
    def properties(self) -> dict[str, str]:
        """What is said of it once and for all."""
        return dict(self._record.properties)

    @property
    def description(self) -> str | None:
        """What it was made with; None if nothing."""
        return self._record.description or None

    @property
    def created_time(self) -> datetime:
        """When its making began, in UTC."""
        return self._record.created_time
