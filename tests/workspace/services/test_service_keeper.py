"""The keeper step by step, with processes that are none: `FakeLauncher` says how each goes on."""

import json
import signal

import pytest

from gatecast.workspace import ServiceState, planning, service_keeper
from gatecast.workspace.process import Process
from gatecast.workspace.service_keeper import ServiceKeeper


@pytest.fixture(autouse=True)
def quick(monkeypatch, memory):
    """No pause between starts, and enough memory."""
    monkeypatch.setattr(service_keeper, "pause_s", lambda deaths: 0.0)


@pytest.fixture
def signals(monkeypatch):
    """Signals that are sent, as (process, name)."""
    sent = []
    monkeypatch.setattr(service_keeper, "send", lambda process, number: sent.append((process, number.name)))
    return sent


class Kept:
    """A keeper and one step of it after the other."""

    def __init__(self, ws, launcher):
        self.ws, self.launcher = ws, launcher
        self.keeper = ServiceKeeper(ws, launcher)

    def step(self, count=1, answers=True, problem=""):
        for _ in range(count):
            services = self.keeper.services()
            self.keeper.observe(services)
            for service in services:
                self.keeper.advance(service)
            self.keeper.stop_marked()
            for service in services:
                if service["state"] == ServiceState.DELETING:
                    self.keeper.finish(service)
                else:
                    self.keeper.judge(service, answers, problem)

    @property
    def replicas(self):
        return {replica.name: replica.state.value for replica in self.keeper.replicas()}

    def service(self, name="one"):
        return self.ws.services.get(name)


@pytest.fixture
def kept(ws, launcher, signals):
    return Kept(ws, launcher)


def test_replicas_start_answer_and_make_the_service_healthy(kept):
    kept.ws.services.deploy("one", "small:1", "here", replicas=2, threads=3)
    kept.step()
    assert kept.replicas == {"one.1": "Starting", "one.2": "Starting"}
    assert kept.service().state is ServiceState.TRANSITIONING
    assert kept.service().reason == "0 of 2 replicas ready"
    artifact = str(kept.ws.images.artifact(None))
    assert kept.launcher.started["one.1"] == [
        *("serve", artifact, "--model_name", "one", "--port", "0", "--rest_api_port", "0", "--threads", "3")
    ]
    kept.launcher.answer("one.1")
    kept.step()
    assert (kept.service().ready, kept.service().reason) == (1, "1 of 2 replicas ready")
    kept.launcher.answer("one.2")
    kept.step()
    assert (kept.service().state, kept.service().reason) == (ServiceState.HEALTHY, "")
    addresses = [(r.address, r.rest_address, r.node) for r in kept.keeper.replicas()]
    assert addresses == [("127.0.0.1:1000", "127.0.0.1:2000", 0), ("127.0.0.1:1001", "127.0.0.1:2001", 1)]


@pytest.mark.parametrize(("processors", "nodes", "threads"), [(8, 3, 2), (2, 2, 1), (2, 5, 1), (16, 1, 16)])
def test_a_replica_has_the_share_of_the_processors_that_its_node_has(
    kept, monkeypatch, processors, nodes, threads
):
    monkeypatch.setattr(service_keeper, "usable_processors", lambda: processors)
    kept.ws.computes.create("other", nodes=nodes)
    kept.ws.services.deploy("one", "small:1", "other")
    kept.step()
    assert kept.launcher.started["one.1"][-2:] == ["--threads", str(threads)]
    assert f"as process 10000001, threads: {threads}\n" in kept.ws.services.logs(kept.service())


def test_a_service_is_not_healthy_before_its_front_door_answers(kept):
    kept.ws.services.deploy("one", "small:1", "here")
    kept.step()
    kept.launcher.answer()
    kept.step(answers=False, problem="Front door ended: no port")
    assert kept.service().state is ServiceState.TRANSITIONING
    assert kept.service().reason == "1 of 1 replicas ready. Front door ended: no port"
    kept.step()
    assert kept.service().state is ServiceState.HEALTHY
    kept.step(answers=False)
    assert kept.service().state is ServiceState.UNHEALTHY
    assert kept.service().reason == "1 of 1 replicas ready. The front door does not answer yet"


def test_a_replica_that_dies_is_replaced(kept):
    kept.ws.services.deploy("one", "small:1", "here", replicas=2)
    kept.step()
    kept.launcher.answer()
    kept.step()
    kept.launcher.finish("one.1", "was ended by SIGKILL")
    kept.step()
    assert kept.replicas == {"one.2": "Ready", "one.3": "Starting"}
    assert kept.service().state is ServiceState.UNHEALTHY
    assert kept.service().reason == ("1 of 2 replicas ready. Replica 1 was ended by SIGKILL: log of one.1")
    assert kept.keeper.replicas()[1].node == 0  # the node that is free again
    kept.launcher.answer("one.3")
    kept.step()
    assert kept.service().state is ServiceState.HEALTHY


def test_replicas_that_die_at_their_start_are_a_failure_with_their_last_words(kept):
    kept.ws.services.deploy("one", "small:1", "here")
    for number in range(1, planning.QUICK_DEATHS + 1):
        kept.step()
        assert kept.service().state is ServiceState.TRANSITIONING
        kept.launcher.finish(f"one.{number}")
    kept.step()
    assert kept.service().state is ServiceState.FAILED
    assert kept.service().reason == "0 of 1 replicas ready. Replica 3 ended with status 1: log of one.3"
    assert "Failed: 0 of 1" in kept.ws.services.logs(kept.service())


def test_a_failed_service_is_tried_again_and_may_recover(kept):
    kept.ws.services.deploy("one", "small:1", "here")
    for number in range(1, 4):
        kept.step()
        kept.launcher.finish(f"one.{number}")
    kept.step()
    assert kept.service().state is ServiceState.FAILED
    kept.launcher.answer("one.4")
    kept.step()
    assert kept.service().state is ServiceState.HEALTHY


def test_between_starts_there_is_a_pause(kept, monkeypatch):
    monkeypatch.setattr(service_keeper, "pause_s", lambda deaths: 100.0)
    kept.ws.services.deploy("one", "small:1", "here")
    kept.step()
    kept.launcher.finish("one.1")
    kept.step(5)
    assert list(kept.launcher.started) == ["one.1"]
    kept.ws.services.update(kept.service(), threads=2)  # a change begins anew
    kept.step()
    assert list(kept.launcher.started) == ["one.1", "one.2"]


def test_an_update_replaces_one_replica_after_the_other(kept, signals):
    kept.ws.services.deploy("one", "small:1", "here", replicas=2)
    kept.step()
    kept.launcher.answer()
    kept.step()
    kept.ws.services.update(kept.service(), image="small:2")
    kept.step(2)
    assert kept.replicas == {"one.1": "Ready", "one.2": "Ready", "one.3": "Starting"}
    assert kept.service().state is ServiceState.TRANSITIONING
    kept.launcher.answer("one.3")
    kept.step(2)
    assert kept.replicas == {"one.1": "Stopping", "one.2": "Ready", "one.3": "Ready"}
    assert signals == [(kept.launcher.processes["one.1"], "SIGTERM")]
    kept.launcher.finish("one.1")
    kept.step()
    assert kept.replicas == {"one.2": "Ready", "one.3": "Ready", "one.4": "Starting"}
    kept.launcher.answer("one.4")
    kept.step()
    kept.launcher.finish("one.2")
    kept.step()
    assert kept.replicas == {"one.3": "Ready", "one.4": "Ready"}
    assert {replica.image for replica in kept.keeper.replicas()} == {"small:2"}
    assert kept.service().state is ServiceState.HEALTHY


def test_an_update_that_fails_leaves_the_old_replicas(kept):
    kept.ws.services.deploy("one", "small:1", "here")
    kept.step()
    kept.launcher.answer()
    kept.step()
    kept.ws.services.update(kept.service(), image="small:2")
    for number in range(2, 5):
        kept.step()
        kept.launcher.finish(f"one.{number}")
    kept.step()
    assert kept.service().state is ServiceState.FAILED
    assert kept.replicas["one.1"] == "Ready"
    assert kept.service().reason == "1 of 1 replicas ready. Replica 4 ended with status 1: log of one.4"
    kept.ws.services.update(kept.service(), image="small:1")
    kept.step()
    assert kept.service().state is ServiceState.TRANSITIONING


def test_fewer_replicas_end_the_ones_that_do_not_answer_first(kept, signals):
    kept.ws.services.deploy("one", "small:1", "here", replicas=3)
    kept.step()
    kept.launcher.answer("one.2", "one.3")
    kept.step()
    kept.ws.services.update(kept.service(), replicas=1)
    kept.step()
    assert kept.replicas == {"one.1": "Stopping", "one.2": "Ready", "one.3": "Stopping"}


def test_what_does_not_end_is_killed(kept, signals, monkeypatch):
    kept.ws.services.deploy("one", "small:1", "here", replicas=2)
    kept.step()
    kept.launcher.answer()
    kept.step()
    kept.ws.services.update(kept.service(), replicas=1)
    kept.step()
    monkeypatch.setattr(service_keeper, "STOP_TIMEOUT_S", -1.0)
    kept.step()
    process = kept.launcher.processes["one.2"]
    assert signals == [(process, "SIGTERM"), (process, "SIGKILL")]


def test_what_does_not_become_ready_is_killed(kept, signals, monkeypatch):
    monkeypatch.setattr(service_keeper, "START_TIMEOUT_S", -1.0)
    kept.ws.services.deploy("one", "small:1", "here")
    kept.step(2)
    assert signals == [(kept.launcher.processes["one.1"], "SIGKILL")]
    assert "Replica 1 was not ready within" in kept.ws.services.logs(kept.service())


def test_a_deleted_service_goes_with_its_replicas_logs_and_own_image(kept, signals):
    kept.ws.services.deploy("one", "small:1", "here", implicit_image=True)
    kept.step()
    kept.launcher.answer()
    kept.step()
    with kept.ws.store.transaction() as database:
        database.execute("UPDATE services SET state = 'Deleting'")
    kept.step()
    assert kept.replicas == {"one.1": "Stopping"}
    kept.launcher.finish("one.1")
    kept.step()
    assert kept.ws.services.list() == []
    assert [image.id for image in kept.ws.images.list()] == ["small:2"]
    assert list((kept.ws.store.root / "logs").glob("*/one*")) == []


def test_an_own_image_stays_if_another_service_runs_it(kept):
    kept.ws.services.deploy("one", "small:1", "here", implicit_image=True)
    kept.ws.services.deploy("two", "small:1", "here")
    with kept.ws.store.transaction() as database:
        database.execute("UPDATE services SET state = 'Deleting' WHERE name = 'one'")
    kept.step()
    assert [service.name for service in kept.ws.services.list()] == ["two"]
    assert kept.ws.images.get("small", 1).id == "small:1"


def test_a_delete_that_was_cut_off_between_service_and_image_goes_on(kept):
    kept.ws.services.deploy("one", "small:1", "here", implicit_image=True)
    with kept.ws.store.transaction() as database:
        database.execute("UPDATE services SET state = 'Deleting', image_name = NULL, image_version = NULL")
    kept.ws.images.delete(kept.ws.images.get("small", 1))
    assert kept.service().image == ""
    kept.step()
    assert kept.ws.services.list() == []


def test_a_replica_needs_memory_that_may_be_gone_later(kept, memory):
    kept.ws.services.deploy("one", "small:1", "here")
    memory(400)
    kept.step()
    assert kept.service().state is ServiceState.UNSCHEDULABLE
    assert kept.service().reason == (
        "0 of 1 replicas ready. A replica needs 150 MiB of memory, but a node of compute here has 100 MiB"
    )
    memory(4000)
    kept.step()
    kept.launcher.answer()
    kept.step()
    assert kept.service().state is ServiceState.HEALTHY


def test_an_image_that_does_not_fit_this_gatecast_any_more_is_a_failure(kept):
    kept.ws.services.deploy("one", "small:1", "here")
    with kept.ws.store.transaction() as database:
        database.execute("UPDATE images SET labels = ?", (json.dumps({"io.gatecast.version": "0.0.1"}),))
    kept.step()
    assert kept.service().state is ServiceState.FAILED
    assert "Image small:1 must be of Gatecast" in kept.service().reason


def test_no_process_to_be_had_is_a_failure_and_leaves_no_replica(kept):
    kept.launcher.refuse = True
    kept.ws.services.deploy("one", "small:1", "here")
    kept.step(2)
    assert kept.service().state is ServiceState.FAILED
    assert "Resource temporarily unavailable" in kept.service().reason
    assert len(kept.replicas) <= 1
    kept.launcher.refuse = False
    kept.step()
    kept.launcher.answer()
    kept.step()
    assert kept.service().state is ServiceState.HEALTHY


def test_the_next_supervisor_takes_over_what_runs(kept, launcher):
    kept.ws.services.deploy("one", "small:1", "here", replicas=2)
    kept.step()
    launcher.answer()
    kept.step()
    second = Kept(kept.ws, launcher)
    second.keeper.adopt()
    second.step()
    assert second.replicas == {"one.1": "Ready", "one.2": "Ready"}
    assert list(launcher.started) == ["one.1", "one.2"]
    assert second.service().state is ServiceState.HEALTHY


def test_killed_between_row_and_process_it_finds_the_process(kept, launcher):
    kept.ws.services.deploy("one", "small:1", "here", replicas=2)
    kept.step()
    with kept.ws.store.transaction() as database:
        database.execute("UPDATE replicas SET process = ''")
    del launcher.processes["one.2"]  # this one was not even started
    second = Kept(kept.ws, launcher)
    second.keeper.adopt()
    assert {replica.name: replica.process for replica in second.keeper.replicas()} == {
        "one.1": launcher.processes["one.1"]
    }


def test_a_process_that_no_row_knows_is_ended(kept, launcher, signals):
    launcher.processes["gone.7"] = Process(10**7, 1)
    launcher.processes["front-door"] = Process(10**7 + 1, 1)
    kept.keeper.adopt()
    assert signals == [(Process(10**7, 1), signal.SIGKILL.name)]


def test_logs_are_bounded_and_only_the_last_are_kept(kept, monkeypatch):
    kept.ws.services.deploy("one", "small:1", "here")
    kept.step()
    monkeypatch.setattr(service_keeper, "LOG_BYTES", 100)
    monkeypatch.setattr(service_keeper, "LOG_KEPT", 50)
    folder = kept.ws.store.log("replica", "any").parent
    for number in range(2, 15):
        (folder / f"one.{number}.log").write_text("old\n")
    (folder / "one.1.log").write_text("".join(f"line {number}\n" for number in range(100)))
    kept.keeper.bound_logs()
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(["one.1.log", *(f"one.{number}.log" for number in range(5, 15))])
    text = (folder / "one.1.log").read_text()
    assert len(text) <= 50
    assert text.startswith("line ") and text.endswith("line 99\n")
