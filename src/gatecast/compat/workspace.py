"""Stands for `azureml.core.workspace`."""

import json
import os
from pathlib import Path
from typing import Any

import gatecast.workspace
from gatecast.errors import NotFoundError

from .compute import ComputeTarget
from .exceptions import UserErrorException, WorkspaceException, as_old
from .handle import Handle
from .image import Image
from .model import Model
from .webservice import Webservice

CONFIG_FILES = (".azureml/config.json", "aml_config/config.json", "config.json")
KEYS = ("subscription_id", "resource_group", "workspace_name")


class Workspace(Handle):
    """A Gatecast workspace under its old name."""

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str] | None = None,
        auth: Any = None,
        _logger: Any = None,
        _file_name: str | None = None,
    ) -> "Workspace":
        """Open the workspace that a configuration file names, or else the one in or above the folder.

        Parameters
        ----------
        path : path, optional
            A configuration file, or the folder to look upward from; by default the current one.
        auth
            Not needed: a folder's permissions say who may use it.

        Raises
        ------
        UserErrorException
            There is neither, or the file lacks a key or names another workspace.
        """
        start = Path.cwd() if path is None else Path(path)
        file = start if start.is_file() else _find_config(start, _file_name)
        with as_old(UserErrorException):
            try:
                found = cls(gatecast.workspace.Workspace.open(_workspace_folder(file, start)))
            except NotFoundError as error:
                raise UserErrorException(
                    "The workspace configuration file config.json, could not be found in "
                    f"{start} or its parent directories, nor a Gatecast workspace",
                    inner_exception=error,
                    hint="Make one: `gatecast workspace create DIR`, and run the script below DIR.",
                ) from error
        if file is not None:
            _check_config(file, found)
        return found

    @property
    def models(self) -> dict[str, Model]:
        """The latest version of each model, by name."""
        return {model.name: model for model in Model.list(self, latest=True)}

    @property
    def images(self) -> dict[str, Image]:
        """The latest version of each image, by name."""
        return {image.name: image for image in reversed(Image.list(self))}

    @property
    def compute_targets(self) -> dict[str, ComputeTarget]:
        """Compute targets by name."""
        return {target.name: target for target in ComputeTarget.list(self)}

    @property
    def webservices(self) -> dict[str, Webservice]:
        """Services by name."""
        return {service.name: service for service in Webservice.list(self)}

    def get_details(self) -> dict[str, str]:
        """Settings as a dictionary."""
        return {
            "id": f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/workspaces/{self.name}",
            "name": self.name,
            "location": self.location,
        }

    def write_config(self, path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> None:
        """Write ``.azureml/config.json`` below `path`, by default the current folder."""
        target = Path(path or ".") / ".azureml" / (file_name or "config.json")
        target.parent.mkdir(parents=True, exist_ok=True)
        values = dict(zip(KEYS, (self.subscription_id, self.resource_group, self.name), strict=True))
        target.write_text(json.dumps(values, indent=4) + "\n", encoding="utf-8")

    def __repr__(self) -> str:
        return (
            f"Workspace.create(name={self.name!r}, subscription_id={self.subscription_id!r}, "
            f"resource_group={self.resource_group!r})"
        )


def _find_config(start: Path, file_name: str | None) -> Path | None:
    names = (f".azureml/{file_name}", file_name) if file_name else CONFIG_FILES
    folder = start.absolute()
    for place in (folder, *folder.parents):
        for name in names:
            if (place / name).is_file():
                return place / name
    return None


def _workspace_folder(file: Path | None, start: Path) -> Path | None:
    """Folder of the workspace; None leaves it to GATECAST_WORKSPACE and the current folder."""
    below = start if start.is_dir() else start.parent
    for place in [file.parent, *file.absolute().parents] if file else [below, *below.absolute().parents]:
        if (place / ".gatecast").is_dir():
            return place
    return None


def _check_config(file: Path, workspace: Workspace) -> None:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserErrorException(
            f"Configuration {file} must be JSON: {error}", inner_exception=error
        ) from error
    if not isinstance(values, dict) or (missing := [key for key in KEYS if key not in values]):
        wanted = ", ".join(KEYS) if not isinstance(values, dict) else ", ".join(missing)
        raise UserErrorException(f"Configuration {file} must have {wanted}")
    if values["workspace_name"] != workspace.name:
        raise WorkspaceException(
            f"Configuration {file} names workspace {values['workspace_name']}, but that of "
            f"{workspace.gatecast.folder} is {workspace.name}",
            hint="Remove the file, or make a workspace with that name: `gatecast workspace create --name`.",
        )
