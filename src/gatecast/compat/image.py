"""Stands for `azureml.core.image`, and for the images of `azureml.accel`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import gatecast.workspace

from .exceptions import WebserviceException, as_old
from .filters import old_filter
from .handle import Handle
from .model import Model
from .progress import POLL_S, printed
from .record import Recorded


class AccelImageConfiguration:
    """What an image shall be tagged with."""

    def __init__(
        self,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> None:
        self.tags, self.properties, self.description = tags, properties, description

    def validate_configuration(self) -> None:
        """Nothing can be wrong."""


class Image(Recorded[gatecast.workspace.Image]):
    """An image; by default its latest version.

    Raises
    ------
    WebserviceException
        There is none.
    """

    def __init__(
        self,
        workspace: Handle,
        name: str | None = None,
        id: str | None = None,
        tags: Sequence[Any] | None = None,
        properties: Sequence[Any] | None = None,
        version: int | str | None = None,
    ) -> None:
        self.workspace = workspace
        if not name and not id:
            raise WebserviceException("Error, one of id or name must be provided.")
        images = workspace.gatecast.images
        with as_old(WebserviceException, "ImageNotFound: "):
            self._record = (
                images.find(id) if id else images.get(str(name), None if version is None else int(version))
            )

    @classmethod
    def _of(cls, workspace: Handle, image: gatecast.workspace.Image) -> "Image":
        made: Image = AccelContainerImage.__new__(AccelContainerImage)
        made.workspace, made._record = workspace, image
        return made

    @staticmethod
    def create(
        workspace: Handle,
        name: str,
        models: Sequence[Model | str | os.PathLike[str]],
        image_config: AccelImageConfiguration,
    ) -> "Image":
        """Begin to build an image; models may be Model objects, ids, or files to be registered."""
        if not models:
            raise WebserviceException("Cannot create accelcontainer image without model")
        print("Creating image")
        own = workspace.gatecast
        with as_old(WebserviceException):
            image, _ = own.images.create(
                name,
                [_registered(workspace, model)._record for model in models],
                tags=image_config.tags,
                properties=image_config.properties,
                description=image_config.description or "",
            )
        return Image._of(workspace, image)

    @staticmethod
    def list(
        workspace: Handle,
        image_name: str | None = None,
        model_name: str | None = None,
        model_id: str | None = None,
        tags: Sequence[Any] | None = None,
        properties: Sequence[Any] | None = None,
    ) -> "Sequence[Image]":
        """Return images, the newest version of each first."""
        found = workspace.gatecast.images.list(
            image_name,
            model_id or model_name,  # an id says the name too
            tags=old_filter(tags),
            properties=old_filter(properties),
        )
        return [Image._of(workspace, image) for image in found]

    def wait_for_creation(self, show_output: bool = False) -> None:
        """Wait until the image is there.

        Raises
        ------
        WebserviceException
            It could not be built; the text has the reason.
        """
        operations = self.workspace.gatecast.operations
        show = printed(lambda operation: str(operation.state.value)) if show_output else None
        ended = operations.wait(operations.get(self._record.operation), on_update=show, poll=POLL_S)
        self._record = self.workspace.gatecast.images.find(self.id)
        state = ended.state.value
        print(f'\nImage creation operation finished for image {self.id}, operation "{state}"')
        if state != "Succeeded":
            print(f"More information about this error is available here: {self.image_build_log_uri}")
            reason = ended.error.splitlines()
            raise WebserviceException(
                f"Image creation polling reached non-successful terminal state, current state: {state}\n"
                + "\n".join(reason),
                hint=reason[-1] if reason else None,
            )

    @property
    def version(self) -> str:
        """Counted up from 1; text, as it was."""
        return str(self._record.version)

    @property
    def id(self) -> str:
        """``name:version``."""
        return self._record.id

    @property
    def creation_state(self) -> str:
        """``Creating``, ``Succeeded`` or ``Failed``, as of now."""
        self._record = self.workspace.gatecast.images.find(self.id)
        return str(self._record.state)

    @property
    def image_location(self) -> str:
        """Where it lies."""
        return self._record.location

    @property
    def image_build_log_uri(self) -> str:
        """Address of the log of its making."""
        return self._record.log.absolute().as_uri()

    @property
    def model_ids(self) -> Sequence[str]:
        """Ids of the models that it holds."""
        return [*self._record.models]

    @property
    def models(self) -> Sequence[Model]:
        """The models that it holds."""
        return [Model(self.workspace, id=id) for id in self.model_ids]

    @property
    def image_type(self) -> str:
        """What old scripts compare with."""
        return "Docker"

    @property
    def image_flavor(self) -> str:
        """What old scripts compare with."""
        return "AccelContainer"

    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Add or change tags."""
        with as_old(WebserviceException):
            self._record = self.workspace.gatecast.images.update(self._record, add_tags=tags)

    def remove_tags(self, tags: Sequence[str]) -> None:
        """Remove tags by their keys."""
        gone = [tags] if isinstance(tags, str) else tags
        with as_old(WebserviceException):
            self._record = self.workspace.gatecast.images.update(self._record, remove_tags=gone)

    def delete(self) -> None:
        """Delete it; refused while a service uses it."""
        with as_old(WebserviceException):
            self.workspace.gatecast.images.delete(self._record)

    def run(self, input_data: Any = None) -> None:
        """Was never possible."""
        raise NotImplementedError("Can't run accel images locally.")


class AccelContainerImage(Image):
    """An image with one accelerated model."""

    @staticmethod
    def image_configuration(
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> AccelImageConfiguration:
        """Return what `Image.create` takes."""
        return AccelImageConfiguration(tags, properties, description)


def _registered(workspace: Handle, model: Model | str | os.PathLike[str]) -> Model:
    if isinstance(model, Model):
        return model
    if isinstance(model, str) and not os.path.exists(model):
        return Model(workspace, id=model)
    name = os.path.basename(os.path.normpath(model))
    return Model.register(workspace, model, name)
