import logging

import pytest

import gatecast.workspace
from gatecast.compat.compute import AksCompute, ComputeTarget
from gatecast.compat.exceptions import ComputeTargetException, UserErrorException, WebserviceException
from gatecast.compat.webservice import AksWebservice, Webservice
from gatecast.compat.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(gatecast.workspace.Workspace.create(tmp_path / "work", name="mine"))


def create(workspace, name="aks", **arguments):
    return ComputeTarget.create(workspace, name, AksCompute.provisioning_configuration(**arguments))


def test_a_cluster_becomes_nodes_of_this_machine_and_the_log_says_so(workspace, caplog, capsys):
    with caplog.at_level(logging.WARNING):
        target = create(workspace, vm_size="Standard_PB6s", agent_count=1, location="eastus")
    assert "1 node of this machine; device software stands in for the FPGA of Standard_PB6s" in caplog.text
    target.wait_for_completion(show_output=True)
    assert capsys.readouterr().out == 'Succeeded\nProvisioning operation finished, operation "Succeeded"\n'
    assert (target.provisioning_state, target.provisioning_errors) == ("Succeeded", None)
    assert (target.agent_count, target.agent_vm_size, target.location) == (1, "Standard_PB6s", "eastus")
    assert list(workspace.compute_targets) == ["aks"]
    target.delete()
    assert target.provisioning_state == "Deleting"
    with pytest.raises(ComputeTargetException, match="ComputeTargetNotFound"):
        ComputeTarget(workspace, "aks")


def test_agents_are_three_unless_told_otherwise(workspace):
    assert create(workspace).agent_count == 3


@pytest.mark.parametrize("count", [0, -1])
def test_a_cluster_has_agents(workspace, count):
    with pytest.raises(ComputeTargetException, match="agent count must be a positive integer"):
        create(workspace, agent_count=count)


def test_tls_is_refused(workspace):
    with pytest.raises(ComputeTargetException, match="has no TLS"):
        create(workspace, ssl_cname="a", ssl_cert_pem_file="b", ssl_key_pem_file="c")


def test_reserved_and_taken_names_are_refused(workspace):
    with pytest.raises(UserErrorException, match="reserved"):
        create(workspace, "local")
    create(workspace)
    with pytest.raises(ComputeTargetException):
        create(workspace)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "no keys yet"),
        ({"auth_enabled": True}, "no keys yet"),
        ({"autoscale_enabled": True, "auth_enabled": False}, "fixed number of replicas"),
        ({"autoscale_enabled": False, "auth_enabled": False}, "num_replicas must be provided"),
        ({"num_replicas": -1, "auth_enabled": False}, "num_replicas must be positive"),
    ],
)
def test_what_local_services_do_not_have_is_refused(arguments, problem):
    with pytest.raises(WebserviceException, match=problem):
        AksWebservice.deploy_configuration(**arguments)


def test_a_service_that_is_not_there_is_told_in_the_old_words(workspace):
    with pytest.raises(WebserviceException, match="WebserviceNotFound: Webservice with name none not found"):
        Webservice(workspace, "none")
