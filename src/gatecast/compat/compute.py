"""Stands for `azureml.core.compute`: a cluster of FPGA machines becomes nodes of this machine."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gatecast.workspace

from .exceptions import ComputeTargetException, UserErrorException, as_old
from .handle import Handle
from .record import Recorded

logger = logging.getLogger(__name__)

DEFAULT_AGENTS = 3
RESERVED = ("amlcompute", "local", "containerinstance")


@dataclass
class AksProvisioningConfiguration:
    """What a cluster shall be. Sizes and places of a cloud are kept as properties, for the record."""

    agent_count: int | None = None
    vm_size: str | None = None
    location: str | None = None
    ssl: dict[str, Any] = field(default_factory=dict)

    def validate_configuration(self) -> None:
        """Refuse what cannot be.

        Raises
        ------
        ComputeTargetException
            No agents, or TLS, which compute on this machine does not have.
        """
        if self.agent_count is not None and self.agent_count <= 0:
            raise ComputeTargetException("Invalid configuration, agent count must be a positive integer.")
        if any(self.ssl.values()):
            raise ComputeTargetException(
                "Invalid configuration, compute on this machine has no TLS",
                hint="Leave the ssl_ arguments out: the service listens on this machine only.",
            )

    def enable_ssl(self, **arguments: Any) -> None:
        """Ask for TLS; `ComputeTarget.create` refuses it."""
        self.ssl = arguments or {"ssl": True}


class ComputeTarget(Recorded[gatecast.workspace.Compute]):
    """A compute target by its name.

    Raises
    ------
    ComputeTargetException
        There is none.
    """

    def __init__(self, workspace: Handle, name: str) -> None:
        self.workspace = workspace
        with as_old(ComputeTargetException, "ComputeTargetNotFound: "):
            self._record = workspace.gatecast.computes.get(name)

    @staticmethod
    def create(
        workspace: Handle, name: str, provisioning_configuration: AksProvisioningConfiguration
    ) -> "ComputeTarget":
        """Make a compute target with one node for each agent."""
        if name in RESERVED:
            raise UserErrorException(f"Please specify a different target name. {name} is a reserved name.")
        configuration = provisioning_configuration
        configuration.validate_configuration()
        nodes = configuration.agent_count or DEFAULT_AGENTS
        kept = {"vm_size": configuration.vm_size, "location": configuration.location}
        with as_old(ComputeTargetException):
            workspace.gatecast.computes.create(
                name, nodes=nodes, properties={key: value for key, value in kept.items() if value}
            )
        logger.warning(
            "Compute target %s: %d node%s of this machine; device software stands in for the FPGA of %s",
            name,
            nodes,
            "s" * (nodes != 1),
            configuration.vm_size or "the cluster",
        )
        return AksCompute(workspace, name)

    @staticmethod
    def list(workspace: Handle) -> "Sequence[ComputeTarget]":
        """Return all compute targets."""
        return [AksCompute(workspace, compute.name) for compute in workspace.gatecast.computes.list()]

    def wait_for_completion(self, show_output: bool = False, is_delete_operation: bool = False) -> None:
        """Return when it is there, which nodes of this machine are at once."""
        if show_output:
            state = self.provisioning_state
            print(f'{state}\nProvisioning operation finished, operation "{state}"')

    @property
    def type(self) -> str:
        """What old scripts compare with."""
        return "AKS"

    @property
    def provisioning_state(self) -> str:
        """``Succeeded``, or ``Deleting`` when it is gone."""
        names = [compute.name for compute in self.workspace.gatecast.computes.list()]
        return "Succeeded" if self.name in names else "Deleting"

    @property
    def provisioning_errors(self) -> Sequence[str] | None:
        """None: what cannot be made is refused when it is asked for."""
        return None

    @property
    def agent_count(self) -> int:
        """Nodes."""
        return self._record.nodes

    @property
    def agent_vm_size(self) -> str | None:
        """What was asked for."""
        return self.properties.get("vm_size")

    @property
    def location(self) -> str | None:
        """What was asked for."""
        return self.properties.get("location")

    def get_status(self) -> str:
        """Return the provisioning state."""
        return self.provisioning_state

    def delete(self) -> None:
        """Delete it; refused while services are on it."""
        with as_old(ComputeTargetException):
            self.workspace.gatecast.computes.delete(self._record)

    def detach(self) -> None:
        """Delete it: nodes of this machine exist only as such."""
        self.delete()


class AksCompute(ComputeTarget):
    """A cluster, as old scripts name it."""

    @staticmethod
    def provisioning_configuration(
        agent_count: int | None = None,
        vm_size: str | None = None,
        ssl_cname: str | None = None,
        ssl_cert_pem_file: str | None = None,
        ssl_key_pem_file: str | None = None,
        location: str | None = None,
        vnet_resourcegroup_name: str | None = None,
        vnet_name: str | None = None,
        subnet_name: str | None = None,
        service_cidr: str | None = None,
        dns_service_ip: str | None = None,
        docker_bridge_cidr: str | None = None,
        cluster_purpose: str | None = None,
        load_balancer_type: str | None = None,
        load_balancer_subnet: str | None = None,
    ) -> AksProvisioningConfiguration:
        """Return what `ComputeTarget.create` takes; networks of a cloud mean nothing here."""
        ssl = {"cname": ssl_cname, "cert": ssl_cert_pem_file, "key": ssl_key_pem_file}
        made = AksProvisioningConfiguration(agent_count, vm_size, location, ssl)
        made.validate_configuration()
        return made
