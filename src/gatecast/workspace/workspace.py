"""A workspace: a folder with models, operations, images, computes and services."""

import os
import uuid
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from gatecast.errors import WorkspaceError

from .labels import checked_name
from .models import Models
from .operations import Operations
from .store import Store, default_folder

if TYPE_CHECKING:
    from .computes import Computes
    from .conversions import Conversions
    from .images import Images
    from .pruning import Pruned
    from .services import Services

MOST_DAYS = 36500


class Workspace:
    """One workspace. Safe for many threads and processes; records are as they were when they were read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.models = Models(store)
        self.operations = Operations(store)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        name: str | None = None,
        resource_group: str = "local",
        location: str = "local",
        subscription_id: str | None = None,
    ) -> "Workspace":
        """Make a folder a workspace; the folder is made if need be.

        Raises
        ------
        ConflictError
            It is one already.
        WorkspaceError
            A wrong name, or the folder cannot be written.
        """
        path = Path(folder)
        hint = "Name it yourself: `--name NAME`; the folder may be called anything."
        settings = {
            "name": checked_name(path.absolute().resolve().name, "a workspace", hint)
            if name is None
            else checked_name(name, "a workspace"),
            "resource_group": checked_name(resource_group, "a resource group"),
            "location": checked_name(location, "a location"),
            "subscription_id": checked_name(subscription_id or str(uuid.uuid4()), "a subscription"),
        }
        return cls(Store.create(path, settings))

    @classmethod
    def open(cls, folder: str | os.PathLike[str] | None = None) -> "Workspace":
        """Open a workspace: the folder, else what GATECAST_WORKSPACE names, else the nearest above here.

        What processes that died have left is removed.

        Raises
        ------
        NotFoundError
            There is no workspace.
        WorkspaceError
            It is damaged, cannot be written, or is of a newer Gatecast.
        """
        return cls(Store.open(default_folder() if folder is None else Path(folder)))

    @property
    def folder(self) -> Path:
        """The folder, absolute."""
        return self.store.folder

    @property
    def name(self) -> str:
        """Its name, by default the folder's."""
        return self.store.settings["name"]

    @property
    def resource_group(self) -> str:
        """A word for the workspaces of one purpose."""
        return self.store.settings["resource_group"]

    @property
    def location(self) -> str:
        """A word for the place where the workspace is."""
        return self.store.settings["location"]

    @property
    def subscription_id(self) -> str:
        """A word for who pays; by default a new UUID."""
        return self.store.settings["subscription_id"]

    def prune(self, days: float = 30.0, dry_run: bool = False) -> "Pruned":
        """Remove what has not been needed for so many days; with `dry_run` only tell it.

        That is operations that have ended, unless an image is what they made; the logs of what is not in the
        workspace; and layers in the user's cache that no image was made with since, except those that the
        next one would take. Models, images and services stay.

        Raises
        ------
        WorkspaceError
            `days` is negative.
        """
        if not 0 <= days <= MOST_DAYS:
            raise WorkspaceError(f"Days must be from 0 to {MOST_DAYS}, not {days}")
        before = datetime.now(UTC) - timedelta(days=days)
        pruned: Pruned = import_module("gatecast.workspace.pruning").prune(
            self.store, self.operations, before, dry_run
        )
        return pruned

    @cached_property
    def conversions(self) -> "Conversions":
        """From a model to a quantised one."""
        conversions: Conversions = import_module("gatecast.workspace.conversions").Conversions(
            self.store, self.models, self.operations
        )
        return conversions

    @cached_property
    def images(self) -> "Images":
        """Models compiled for a target, with all that serves them."""
        images: Images = import_module("gatecast.workspace.images").Images(
            self.store, self.models, self.operations
        )
        return images

    @cached_property
    def computes(self) -> "Computes":
        """Where services run."""
        computes: Computes = import_module("gatecast.workspace.computes").Computes(self.store)
        return computes

    @cached_property
    def services(self) -> "Services":
        """Images that run as replicas on a compute."""
        services: Services = import_module("gatecast.workspace.services").Services(
            self.store, self.models, self.images
        )
        return services
