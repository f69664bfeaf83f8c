import re

import pytest

from gatecast import __version__
from gatecast.errors import ConflictError, NotFoundError, WorkspaceError
from gatecast.workspace import ServiceState, replicas, supervision
from gatecast.workspace.process import Process


@pytest.fixture(autouse=True)
def enough(memory):
    """Have enough memory."""


def state_to(ws, name, state):
    with ws.store.transaction() as database:
        database.execute("UPDATE services SET state = ? WHERE name = ?", (state, name))


def generation(ws, name):
    with ws.store.reading() as database:
        return database.execute("SELECT generation FROM services WHERE name = ?", (name,)).fetchone()[0]


def test_a_service_is_deployed_and_found_again(ws):
    service = ws.services.deploy(
        "one", "small", "here", replicas=2, threads=3, tags={"a": "b"}, properties={"c": "d"}, description="e"
    )
    assert (service.name, service.image, service.compute) == ("one", "small:2", "here")
    assert (service.replicas, service.ready, service.threads) == (2, 0, 3)
    assert (service.state, service.reason) == (ServiceState.TRANSITIONING, "")
    assert (service.scoring_uri, service.rest_uri) == (None, None)
    assert (service.tags, service.properties, service.description) == ({"a": "b"}, {"c": "d"}, "e")
    assert service.models == ("net",)
    assert not service.implicit_image
    assert ws.services.get("one") == service
    assert ws.services.list() == [service]
    assert ws.services.list(tags=[("a", "b")], properties=[("c", None)]) == [service]
    assert ws.services.list(tags=[("a", "x")]) == []


def test_requests_may_name_the_model_that_the_image_was_converted_from(ws, tmp_path, add_image):
    ws.models.register("net.1.accelonnx", tmp_path / "net.onnx", parent="net:1")
    add_image(ws, "converted", model="net.1.accelonnx:1")
    assert ws.services.deploy("one", "converted", "here").models == ("net.1.accelonnx", "net")


@pytest.mark.parametrize(
    "name", ["", "ab", "Abc", "1bc", "-bc", "ab-", "a.b", "a_b", "a b", "a" * 33, None, "abc\n"]
)
def test_wrong_names_are_refused(ws, name):
    with pytest.raises(WorkspaceError, match="^Name of a service must be 3 to 32 lower-case letters"):
        ws.services.deploy(name, "small", "here")
    assert ws.services.list() == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"replicas": 0}, "Replicas of a service must be a whole number from 1 to 1024, not 0"),
        ({"threads": 0}, "Threads of a service must be a whole number from 1 to 1024, not 0"),
        ({"threads": -1}, "Threads of a service must be a whole number from 1 to 1024, not -1"),
        ({"tags": {"": "x"}}, "Keys of tags must be"),
    ],
)
def test_wrong_values_are_refused(ws, options, text):
    with pytest.raises(WorkspaceError, match=re.escape(text)):
        ws.services.deploy("one", "small", "here", **options)
    assert ws.services.list() == []


def test_what_is_not_there_is_named(ws):
    with pytest.raises(NotFoundError, match="Compute there is not known"):
        ws.services.deploy("one", "small", "there")
    with pytest.raises(NotFoundError, match="not none"):
        ws.services.deploy("one", "none", "here")
    with pytest.raises(NotFoundError, match="Service one is not known"):
        ws.services.get("one")
    assert ws.services.list() == []


def test_a_name_is_used_once(ws):
    ws.services.deploy("one", "small", "here")
    with pytest.raises(ConflictError, match="Service one must not exist yet; it does"):
        ws.services.deploy("one", "small", "here")


def test_an_image_of_another_gatecast_is_refused(ws, add_image):
    add_image(ws, "old", version="0.0.1")
    with pytest.raises(WorkspaceError) as error:
        ws.services.deploy("one", "old", "here")
    assert str(error.value) == (
        f"Image old:1 must be of Gatecast {__version__}, which is installed, to run here, not of 0.0.1"
    )
    assert error.value.hint == "Create the image again, or run it by a container tool."
    service = ws.services.deploy("one", "small", "here")
    with pytest.raises(WorkspaceError, match="not of 0.0.1"):
        ws.services.update(service, image="old")
    assert ws.services.get("one") == service


def test_an_image_that_failed_is_refused(ws, add_image):
    add_image(ws, "broken", state="Failed")
    with pytest.raises(WorkspaceError, match="Image broken:1 must have succeeded to be run, but is Failed"):
        ws.services.deploy("one", "broken", "here")


def test_an_image_in_use_stays(ws):
    service = ws.services.deploy("one", "small:1", "here")
    with pytest.raises(ConflictError, match="service one runs it"):
        ws.images.delete(ws.images.get("small", 1))
    ws.services.update(service, image="small:2")
    ws.images.delete(ws.images.get("small", 1))


def test_only_what_needs_other_processes_is_a_new_generation(ws):
    service = ws.services.deploy("one", "small:1", "here")
    state_to(ws, "one", "Healthy")
    service = ws.services.update(service, add_tags={"a": "b"}, description="new", add_properties={"p": "q"})
    assert (service.tags, service.description, service.properties) == ({"a": "b"}, "new", {"p": "q"})
    assert (service.state, generation(ws, "one")) == (ServiceState.HEALTHY, 1)
    service = ws.services.update(service, image="small:1", remove_tags=["a"])
    assert (service.tags, service.state, generation(ws, "one")) == ({}, ServiceState.HEALTHY, 1)
    service = ws.services.update(service, replicas=2)
    assert (service.state, generation(ws, "one")) == (ServiceState.TRANSITIONING, 1)
    service = ws.services.update(service, image="small:2")
    assert (service.image, generation(ws, "one")) == ("small:2", 2)
    service = ws.services.update(service, threads=2)
    assert (service.threads, generation(ws, "one")) == (2, 3)
    assert service.updated_time > service.created_time


def test_wrong_updates_change_nothing(ws):
    service = ws.services.deploy("one", "small:1", "here", properties={"p": "q"})
    for options in (
        {"replicas": 0, "image": "small:2"},
        {"add_properties": {"p": "other"}, "image": "small:2"},
        {"image": "none"},
    ):
        with pytest.raises((WorkspaceError, NotFoundError)):
            ws.services.update(service, **options)
    assert ws.services.get("one") == service


def test_a_service_that_is_being_deleted_is_not_changed(ws):
    service = ws.services.deploy("one", "small", "here")
    with pytest.raises(WorkspaceError) as error:
        ws.services.delete(service, timeout=0.01)  # nobody is there to do it
    assert str(error.value) == "Service one must be gone within 0.01 s, but is not"
    assert ws.services.get("one").state is ServiceState.DELETING
    with pytest.raises(ConflictError, match="Service one must not be changed while it is being deleted"):
        ws.services.update(service, replicas=2)


def test_waiting_ends_with_the_time_or_with_a_state_that_stays(ws):
    service = ws.services.deploy("one", "small", "here")
    seen = []
    assert ws.services.wait(service, 0.05, seen.append, poll=0.01).state is ServiceState.TRANSITIONING
    assert len(seen) > 1
    state_to(ws, "one", "Failed")
    assert ws.services.wait(service).state is ServiceState.FAILED
    with ws.store.transaction() as database:
        database.execute("DELETE FROM services")
    with pytest.raises(NotFoundError):
        ws.services.wait(service)


@pytest.mark.parametrize(
    ("host", "port", "uri"),
    [("127.0.0.3", 80, "http://127.0.0.3/"), ("127.0.0.1", 8080, "http://127.0.0.1:8080/")],
)
def test_the_address_is_that_of_the_front_door_once_it_answers(ws, host, port, uri):
    ws.services.deploy("one", "small", "here")
    with ws.store.transaction() as database:
        database.execute("INSERT INTO front_door VALUES (1, '', ?, ?, 8501, 0, 0)", (host, port))
    assert ws.services.get("one").scoring_uri is None
    with ws.store.transaction() as database:
        database.execute("UPDATE front_door SET known = 1")
    service = ws.services.get("one")
    assert (service.scoring_uri, service.rest_uri) == (uri, f"http://{host}:8501/")


def test_logs_are_the_last_lines_of_the_service_and_its_replicas(ws):
    service = ws.services.deploy("one", "small", "here")
    assert ws.services.logs(service) == ""
    ws.store.log("service", "one").write_text("started\nhealthy\n")
    ws.store.log("replica", "one.2").write_text("a\nb\n")
    ws.store.log("replica", "one.10").write_text("c\nd\n")
    ws.store.log("replica", "one-more.1").write_text("of another\n")
    assert ws.services.logs(service) == (
        "--- events ---\nstarted\nhealthy\n--- replica 2 ---\na\nb\n--- replica 10 ---\nc\nd\n"
    )
    assert ws.services.logs(service, 3) == "--- replica 2 ---\nb\n--- replica 10 ---\nc\nd\n"


def test_what_ended_while_nobody_looked_is_not_healthy(ws, monkeypatch):
    """As after a restart of the machine: the first look starts a supervisor and does not believe the rows."""
    gone, here = Process(10**7, 1), Process.current()
    for name, processes in (("lost", (gone, here)), ("well", (here,)), ("new", (None,))):
        service = ws.services.deploy(name, "small", "here", replicas=len(processes))
        with ws.store.transaction() as database:
            row = database.execute("SELECT * FROM services WHERE name = ?", (service.name,)).fetchone()
            for node, process in enumerate(processes):
                identity = replicas.insert(database, row, node)
                if process:
                    replicas.set_process(database, identity, process)
                    replicas.set_ready(database, identity, "127.0.0.1:1", "127.0.0.1:2")
            database.execute("UPDATE services SET state = 'Healthy' WHERE name = ?", (service.name,))
    monkeypatch.setattr(supervision, "ensure", lambda store, before: before())
    found = {service.name: (service.state, service.ready, service.reason) for service in ws.services.list()}
    assert found == {
        "lost": (ServiceState.UNHEALTHY, 1, "Replicas have ended; they are started again"),
        "new": (ServiceState.HEALTHY, 0, ""),
        "well": (ServiceState.HEALTHY, 1, ""),
    }
    assert [str(replica.state) for replica in ws.services.replicas()] == [
        *("Stopping", "Ready", "Ready", "Starting")
    ]
