"""Stands for `azureml.core.webservice`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import gatecast.workspace
from gatecast.errors import NotFoundError

from .compute import ComputeTarget
from .exceptions import WebserviceException, as_old
from .handle import Handle
from .image import AccelImageConfiguration, Image
from .progress import POLL_S, printed
from .record import Recorded


@dataclass
class AksServiceDeploymentConfiguration:
    """How a service shall run."""

    autoscale_enabled: bool | None = None
    num_replicas: int | None = None
    auth_enabled: bool | None = None
    tags: Mapping[str, str] | None = None
    properties: Mapping[str, str] | None = None
    description: str | None = None
    token_auth_enabled: bool | None = None

    def validate_configuration(self) -> None:
        """Refuse what cannot be.

        Raises
        ------
        WebserviceException
            Replicas are missing or not positive, or something that local services do not have.
        """
        if self.autoscale_enabled:
            raise WebserviceException(
                "Invalid configuration, services on this machine have a fixed number of replicas",
                hint="Pass autoscale_enabled=False and num_replicas.",
            )
        if self.autoscale_enabled is False and not self.num_replicas:
            raise WebserviceException(
                "Invalid configuration, num_replicas must be provided when autoscale is not enabled."
            )
        if self.num_replicas is not None and self.num_replicas <= 0:
            raise WebserviceException("Invalid configuration, num_replicas must be positive.")
        if self.auth_enabled is not False or self.token_auth_enabled:  # the old default is True
            raise WebserviceException(
                "Invalid configuration, services on this machine have no keys yet, and listen on it only",
                hint="Pass auth_enabled=False.",
            )


class Webservice(Recorded[gatecast.workspace.Service]):
    """A service by its name.

    Raises
    ------
    WebserviceException
        There is none.
    """

    def __init__(self, workspace: Handle, name: str) -> None:
        self.workspace = workspace
        try:
            with as_old(WebserviceException):
                self._record = workspace.gatecast.services.get(name)
        except WebserviceException as error:
            if isinstance(error.inner_exception, NotFoundError):
                raise WebserviceException(
                    f"WebserviceNotFound: Webservice with name {name} not found in provided workspace",
                    inner_exception=error.inner_exception,
                    hint=error.hint,
                ) from error
            raise

    @staticmethod
    def deploy_from_image(
        workspace: Handle,
        name: str,
        image: Image,
        deployment_config: AksServiceDeploymentConfiguration | None = None,
        deployment_target: ComputeTarget | None = None,
        overwrite: bool = False,
    ) -> "Webservice":
        """Begin to run an image as a service."""
        return _deploy(workspace, name, image, deployment_config, deployment_target, overwrite)

    @staticmethod
    def deploy_from_model(
        workspace: Handle,
        name: str,
        models: Sequence[Any],
        image_config: AccelImageConfiguration,
        deployment_config: AksServiceDeploymentConfiguration | None = None,
        deployment_target: ComputeTarget | None = None,
        overwrite: bool = False,
    ) -> "Webservice":
        """Make an image of the service's name, wait for it, deploy it; the image goes with the service."""
        image = Image.create(workspace, name, models, image_config)
        image.wait_for_creation(show_output=True)
        return _deploy(workspace, name, image, deployment_config, deployment_target, overwrite, implicit=True)

    @staticmethod
    def list(workspace: Handle, **_: Any) -> "Sequence[Webservice]":
        """Return all services."""
        return [AksWebservice(workspace, service.name) for service in workspace.gatecast.services.list()]

    def wait_for_deployment(self, show_output: bool = False, timeout_sec: float | None = None) -> None:
        """Wait until it answers.

        Raises
        ------
        WebserviceException
            It does not; the text has the reason.
        """
        show = printed(lambda service: str(service.state)) if show_output else None
        services = self.workspace.gatecast.services
        with as_old(WebserviceException):
            self._record = services.wait(self._record, timeout_sec, on_update=show, poll=POLL_S)
        healthy = self._record.state == "Healthy"
        if show_output:
            print(
                f"\n{self._record.state}\nAKS service creation operation finished, "
                f'operation "{"Succeeded" if healthy else "Failed"}"'
            )
        if not healthy:
            raise WebserviceException(
                "Service deployment polling reached non-successful terminal state, "
                f"current service state: {self._record.state}\n{self._record.reason}",
                hint=f"See its log: gatecast service logs {self.name}.",
            )

    @property
    def state(self) -> str:
        """``Transitioning``, ``Healthy``, ``Unhealthy``, ``Failed``, … as of now."""
        return str(self._looked_at().state)

    @property
    def error(self) -> str | None:
        """Why it is not healthy; None if it is."""
        return self._looked_at().reason or None

    @property
    def scoring_uri(self) -> str:
        """Where it answers: host, and port unless that is 80; empty until it does."""
        return self._looked_at().scoring_uri or ""

    @property
    def compute_type(self) -> str:
        """What old scripts compare with."""
        return "AKS"

    @property
    def compute_name(self) -> str:
        """Name of the compute target that it runs on."""
        return self._record.compute

    @property
    def num_replicas(self) -> int:
        """How many processes answer."""
        return self._looked_at().replicas

    @property
    def auth_enabled(self) -> bool:
        """Whether it wants a key."""
        return False

    @property
    def image_id(self) -> str:
        """Id of its image."""
        return self._looked_at().image

    @property
    def image(self) -> Image:
        """Its image."""
        return Image(self.workspace, id=self.image_id)

    @property
    def updated_time(self) -> datetime:
        """When it was last changed, in UTC."""
        return self._looked_at().updated_time

    def get_logs(self, num_lines: int = 5000) -> str:
        """Return the last lines of its replicas' logs."""
        with as_old(WebserviceException):
            return self.workspace.gatecast.services.logs(self._record, num_lines)

    def update(
        self,
        image: Image | None = None,
        autoscale_enabled: bool | None = None,
        num_replicas: int | None = None,
        **_: Any,
    ) -> None:
        """Change image or replicas, without a request failing."""
        if image is None and num_replicas is None:
            raise WebserviceException("No parameters provided to update.")
        with as_old(WebserviceException):
            self._record = self.workspace.gatecast.services.update(
                self._record, image=None if image is None else image._record, replicas=num_replicas
            )

    def delete(self) -> None:
        """End it."""
        with as_old(WebserviceException):
            self.workspace.gatecast.services.delete(self._record)

    def _looked_at(self) -> gatecast.workspace.Service:
        with as_old(WebserviceException):
            self._record = self.workspace.gatecast.services.get(self._record.name)
        return self._record


class AksWebservice(Webservice):
    """A service on a compute target."""

    @staticmethod
    def deploy_configuration(
        autoscale_enabled: bool | None = None,
        num_replicas: int | None = None,
        auth_enabled: bool | None = None,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str | None = None,
        token_auth_enabled: bool | None = None,
        **limits: Any,
    ) -> AksServiceDeploymentConfiguration:
        """Return what the deploy functions take; limits of processors and queues mean nothing here."""
        made = AksServiceDeploymentConfiguration(
            autoscale_enabled, num_replicas, auth_enabled, tags, properties, description, token_auth_enabled
        )
        made.validate_configuration()
        return made


def _deploy(
    workspace: Handle,
    name: str,
    image: Image,
    configuration: AksServiceDeploymentConfiguration | None,
    target: ComputeTarget | None,
    overwrite: bool,
    implicit: bool = False,
) -> Webservice:
    own = workspace.gatecast
    if target is None:
        raise WebserviceException("A service needs a deployment_target", hint="Pass a ComputeTarget.")
    configuration = configuration or AksServiceDeploymentConfiguration()
    configuration.validate_configuration()
    if name in [service.name for service in own.services.list()]:
        if not overwrite:
            raise WebserviceException(
                f"Error, there is already a service with name {name} found in workspace {workspace.name}"
            )
        own.services.delete(own.services.get(name))
    if image.creation_state != "Succeeded":
        raise WebserviceException(
            f'Unable to create service with image {image.id} in non "Succeeded" creation state.',
            hint="Wait for it: image.wait_for_creation(show_output=True).",
        )
    with as_old(WebserviceException):
        own.services.deploy(
            name,
            image._record,
            target._record,
            replicas=configuration.num_replicas or 1,
            tags=configuration.tags,
            properties=configuration.properties,
            description=configuration.description or "",
            implicit_image=implicit,
        )
    return AksWebservice(workspace, name)
