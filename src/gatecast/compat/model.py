"""Stands for `azureml.core.model`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import gatecast.workspace
from gatecast.errors import NotFoundError

from .exceptions import WebserviceException, as_old
from .filters import old_filter
from .handle import Handle
from .record import Recorded


class Model(Recorded[gatecast.workspace.Model]):
    """A registered model; by default its latest version.

    Parameters
    ----------
    workspace : Workspace
    name, version
        Which; or `id`, ``name:version``.

    Raises
    ------
    WebserviceException
        It is not registered, or neither name nor id is given.
    """

    def __init__(
        self,
        workspace: Handle,
        name: str | None = None,
        id: str | None = None,
        tags: Sequence[Any] | None = None,
        properties: Sequence[Any] | None = None,
        version: int | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        expand: bool = True,
    ) -> None:
        if not name and not id:
            raise WebserviceException("Error, one of id or name must be provided.")
        self.workspace = workspace
        models = workspace.gatecast.models
        try:
            with as_old(WebserviceException):
                if id or version is not None or not (tags or properties):
                    self._record = models.find(id) if id else models.get(str(name), version)
                else:
                    found = models.list(name, tags=old_filter(tags), properties=old_filter(properties))
                    self._record = _first(found, str(name))
        except WebserviceException as error:
            if isinstance(error.inner_exception, NotFoundError):
                which = f"id {id}" if id else f"name {name}"
                raise WebserviceException(
                    f"ModelNotFound: Model with {which} not found in provided workspace",
                    inner_exception=error.inner_exception,
                    hint=error.hint,
                ) from error
            raise

    @classmethod
    def _of(cls, workspace: Handle, model: gatecast.workspace.Model) -> "Model":
        made = cls.__new__(cls)
        made.workspace, made._record = workspace, model
        return made

    @staticmethod
    def register(
        workspace: Handle,
        model_path: str | os.PathLike[str],
        model_name: str,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str | None = None,
        datasets: Any = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: Any = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
    ) -> "Model":
        """Copy a file or folder into the workspace as the next version of `model_name`."""
        print(f"Registering model {model_name}")
        with as_old(WebserviceException):
            model = workspace.gatecast.models.register(
                model_name, model_path, tags=tags, properties=properties, description=description or ""
            )
        return Model._of(workspace, model)

    @staticmethod
    def list(
        workspace: Handle,
        name: str | None = None,
        tags: Sequence[Any] | None = None,
        properties: Sequence[Any] | None = None,
        run_id: str | None = None,
        latest: bool = False,
        **_: Any,
    ) -> "Sequence[Model]":
        """Return models, the newest version of each first."""
        found = workspace.gatecast.models.list(
            name, tags=old_filter(tags), properties=old_filter(properties), latest=latest
        )
        return [Model._of(workspace, model) for model in found]

    @property
    def version(self) -> int:
        """Counted up from 1."""
        return self._record.version

    @property
    def id(self) -> str:
        """``name:version``."""
        return self._record.id

    @property
    def url(self) -> str:
        """Its address."""
        return self._record.url

    @property
    def parent_id(self) -> str | None:
        """Id of the model that it was converted from."""
        return self._record.parent

    def download(self, target_dir: str | os.PathLike[str] = ".", exist_ok: bool = False) -> str:
        """Copy it into a folder; return where it lies."""
        with as_old(WebserviceException):
            return str(self.workspace.gatecast.models.download(self._record, target_dir, exist_ok))

    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Add or change tags."""
        self._update(add_tags=tags)

    def remove_tags(self, tags: Sequence[str]) -> None:
        """Remove tags by their keys."""
        self._update(remove_tags=[tags] if isinstance(tags, str) else tags)

    def add_properties(self, properties: Mapping[str, str]) -> None:
        """Add properties; one that is there cannot change."""
        self._update(add_properties=properties)

    def update(self, tags: Mapping[str, str] | None = None, description: str | None = None, **_: Any) -> None:
        """Replace the tags, or the description."""
        gone = [key for key in self.tags if tags is not None and key not in tags]
        self._update(add_tags=tags or {}, remove_tags=gone, description=description)

    def delete(self) -> None:
        """Delete it; refused while an image holds it."""
        with as_old(WebserviceException):
            self.workspace.gatecast.models.delete(self._record)

    def _update(self, **changes: Any) -> None:
        with as_old(WebserviceException):
            self._record = self.workspace.gatecast.models.update(self._record, **changes)

    def __repr__(self) -> str:
        return f"Model(workspace={self.workspace!r}, name={self.name}, id={self.id}, version={self.version})"


def _first(models: Sequence[gatecast.workspace.Model], name: str) -> gatecast.workspace.Model:
    if not models:
        raise NotFoundError(f"No version of model {name} has these tags and properties")
    return models[0]
