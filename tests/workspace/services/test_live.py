"""Real processes: services of the carried network, under load, while processes are killed and replaced.

The tests of this module share one workspace and run in order; each leaves its services as it found them.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest

from gatecast import zoo
from gatecast.client import PredictionClient, Retry
from gatecast.errors import CapacityError, ConflictError, GatecastError
from gatecast.interchange import export
from gatecast.workspace import Service, ServiceState, Workspace, supervision
from gatecast.workspace.artifact_layer import ARTIFACT_DIGEST
from gatecast.workspace.blobs import digest_of
from gatecast.workspace.launching import Launcher
from gatecast.workspace.process import Process

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are looked up in /proc")

WAIT_S = 180
"""Of a machine that does much else: starting a server takes a second of a processor."""


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A workspace with images fashion:1 and fashion:2 and a compute `here` of four nodes."""
    folder = tmp_path_factory.mktemp("live")
    export(zoo.load("fashion"), folder / "fashion.onnx")
    workspace = Workspace.create(folder / "site")
    model = workspace.models.register("fashion", folder / "fashion.onnx")
    begun = [workspace.images.create("fashion", [model], format=form) for form in ("bfp8", "bfp7")]
    for _, operation in begun:
        done = workspace.operations.wait(operation, WAIT_S)
        assert done.state == "Succeeded", workspace.operations.read_log(done)
    workspace.computes.create("here", nodes=4)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    patch = pytest.MonkeyPatch()
    patch.setenv("GATECAST_SCORING_PORT", str(port))
    yield workspace
    supervision.kill_all(workspace.store)
    patch.undo()
    assert Launcher(workspace.store).found() == {}


@pytest.fixture(scope="module")
def deployed(live):
    """The service `clothes` of image fashion:1 with two replicas, healthy."""
    service = live.services.deploy("clothes", "fashion:1", "here", replicas=2, threads=1)
    assert service.state is ServiceState.TRANSITIONING
    return healthy(live, service)


@pytest.fixture
def service(live, deployed) -> Service:
    """`clothes`, as the tests before have left it: healthy."""
    return healthy(live, deployed)


def healthy(workspace, service):
    """Wait until a service is healthy."""
    deadline = time.monotonic() + WAIT_S
    while (service := workspace.services.wait(service, WAIT_S)).state is not ServiceState.HEALTHY:
        assert time.monotonic() < deadline, (service, workspace.services.logs(service))
        time.sleep(0.05)
    return service


def eventually(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} has not come"
        time.sleep(0.02)
    return found


def client(service, **options):
    address = service.scoring_uri.removeprefix("http://").rstrip("/")
    return PredictionClient(address, retry=Retry(attempts=1), **options)


PICTURE = np.linspace(-1, 1, 28 * 28, dtype=np.float32).reshape(1, 28, 28, 1)


def ask(of):
    scores = of.predict({"images": PICTURE}, timeout=WAIT_S)["probabilities"]
    assert scores.shape == (1, 10)
    return scores


class Load:
    """Counts calls, and keeps the errors, of callers that do not retry."""

    def __init__(self):
        self.calls, self.errors = 0, []


@contextmanager
def under_load(service, callers=2):
    """Call a service again and again; no call may fail."""
    load, done = Load(), threading.Event()

    def run():
        with client(service, service_name=service.name) as of:
            while not done.wait(0.005):
                try:
                    ask(of)
                    load.calls += 1
                except GatecastError as error:
                    load.errors.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: load.calls > 5, "load")
        yield load
        before = load.calls
        eventually(lambda: load.calls > before + 5, "load at the end")
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert load.errors == []


def door(workspace):
    with workspace.store.reading() as database:
        return Process.from_text(database.execute("SELECT process FROM front_door").fetchone()[0])


def is_ready(workspace):
    with workspace.store.reading() as database:
        return database.execute("SELECT ready FROM front_door").fetchone()[0]


def replicas(workspace, name="clothes"):
    return {replica.id: replica for replica in workspace.services.replicas() if replica.service == name}


def test_a_service_answers_by_header_by_its_name_by_its_models_and_over_rest(live, service):
    assert (service.ready, service.reason, service.models) == (2, "", ("fashion",))
    assert service.scoring_uri == f"http://127.0.0.1:{os.environ['GATECAST_SCORING_PORT']}/"
    with client(service, service_name="clothes") as by_header, client(service) as unnamed:
        expected = ask(by_header)
        assert (ask(unnamed) == expected).all()
    for name in ("clothes", "fashion"):
        with client(service, model=name) as by_name:
            assert (ask(by_name) == expected).all()
        with urllib.request.urlopen(f"{service.rest_uri}v1/models/{name}", timeout=20) as reply:
            assert json.loads(reply.read())["model_version_status"][0]["state"] == "AVAILABLE"


def test_what_is_in_use_stays(live, service):
    with pytest.raises(ConflictError, match="but has: clothes"):
        live.computes.delete(live.computes.get("here"))
    with pytest.raises(ConflictError, match="clothes"):
        live.images.delete(live.images.get("fashion", 1))


def test_what_does_not_fit_is_refused_and_leaves_nothing(live, service):
    with pytest.raises(CapacityError, match="asks for 3 nodes, but compute here has 2 free of 4"):
        live.services.deploy("more", "fashion", "here", replicas=3)
    assert [found.name for found in live.services.list()] == ["clothes"]


def test_a_replica_that_is_killed_under_load_loses_no_call_and_is_started_again(live, service):
    victim = min(replicas(live))
    with under_load(service):
        os.kill(replicas(live)[victim].process.pid, signal.SIGKILL)
        eventually(lambda: victim not in replicas(live), "the death of a replica")
        eventually(lambda: live.services.get("clothes").ready == 2, "another replica")
    assert victim not in replicas(live)
    healthy(live, service)
    assert f"Replica {victim} was ended by SIGKILL" in live.services.logs(service)


def test_services_go_on_without_the_supervisor_and_the_next_command_starts_one(live, service):
    before = {identity: replica.process for identity, replica in replicas(live).items()}
    (first,) = supervision.supervisors(live.store)
    with under_load(service):
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: not supervision.is_running(live.store), "the death of the supervisor")
        live.services.list()  # as any command does
        eventually(lambda: supervision.is_running(live.store), "another supervisor")
    assert {identity: replica.process for identity, replica in replicas(live).items()} == before
    eventually(lambda: supervision.supervisors(live.store), "its process")
    assert first not in supervision.supervisors(live.store)


def test_a_replica_that_dies_while_there_is_no_supervisor_is_replaced_later(live, service):
    (first,) = eventually(lambda: supervision.supervisors(live.store), "a supervisor")
    os.kill(first.pid, signal.SIGKILL)
    victim = max(replicas(live))
    os.kill(replicas(live)[victim].process.pid, signal.SIGKILL)
    with under_load(service):
        live.services.get("clothes")
        eventually(lambda: victim not in replicas(live), "the note of its death")
        eventually(lambda: live.services.get("clothes").ready == 2, "another replica")


def test_a_front_door_that_is_killed_comes_back_at_its_address(live, service):
    process = door(live)
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: door(live) not in (process, None), "another front door")
    assert live.services.get("clothes").scoring_uri == service.scoring_uri
    eventually(lambda: is_ready(live), "its readiness")
    assert healthy(live, service).scoring_uri == service.scoring_uri
    with client(service, service_name="clothes") as of:
        ask(of)


def test_the_image_is_changed_under_load_without_a_failed_call_even_if_the_supervisor_dies(live, service):
    with client(service, service_name="clothes") as of:
        before = ask(of)
        old = set(replicas(live))
        with under_load(service):
            updated = live.services.update(service, image="fashion:2")
            assert updated.state is ServiceState.TRANSITIONING
            eventually(lambda: set(replicas(live)) - old, "a new replica")
            for process in supervision.supervisors(live.store):  # in the middle of it
                os.kill(process.pid, signal.SIGKILL)
            healthy(live, updated)
        assert not old & set(replicas(live))
        assert {replica.image for replica in replicas(live).values()} == {"fashion:2"}
        after = ask(of)
    assert (before != after).any()
    assert np.abs(before - after).max() < 0.1


def test_the_number_of_replicas_is_changed_under_load_without_a_failed_call(live, service):
    with under_load(service):
        for count in (1, 2):
            updated = healthy(live, live.services.update(service, replicas=count))
            assert (updated.ready, len(replicas(live))) == (count, count)


def test_several_services_share_the_address(live, service):
    other = live.services.deploy("other", "fashion:1", "here", threads=1)
    try:
        other = healthy(live, other)
        assert other.scoring_uri == service.scoring_uri
        with client(other, service_name="other") as by_header, client(other, model="clothes") as by_name:
            assert (ask(by_header) != ask(by_name)).any()  # two images
        with client(other, model="fashion") as ambiguous:
            with pytest.raises(GatecastError, match="served by several services; name one of clothes, other"):
                ask(ambiguous)
        with client(other, service_name="none") as unknown:
            with pytest.raises(GatecastError, match="Service none is not known; services: clothes, other"):
                ask(unknown)
    finally:
        with under_load(service):
            live.services.delete(other)
    assert replicas(live, "other") == {}
    assert live.services.list() == [live.services.get("clothes")]


def relabel(live, digest):
    """Make the workspace believe that the artifact in image fashion:1 has this digest."""
    with live.store.transaction() as database:
        labels = json.loads(database.execute("SELECT labels FROM images WHERE version = 1").fetchone()[0])
        before, labels[ARTIFACT_DIGEST] = labels[ARTIFACT_DIGEST], digest
        database.execute("UPDATE images SET labels = ? WHERE version = 1", (json.dumps(labels),))
    return before


def test_a_service_whose_process_dies_at_its_start_fails_with_its_last_words(live, service):
    artifact = live.images.artifact(live.images.get("fashion", 1))
    artifact.chmod(0o644)
    artifact.write_bytes(artifact.read_bytes()[:1000])
    right = relabel(live, digest_of(artifact))
    try:
        broken = live.services.deploy("broken", "fashion:1", "here")
        broken = live.services.wait(broken, WAIT_S)
        assert broken.state is ServiceState.FAILED
        assert broken.reason.startswith("0 of 1 replicas ready. Replica ")
        assert "ended with status 1: error: " in broken.reason
        assert "hint: " in broken.reason
        assert "--- events ---" in live.services.logs(broken)
        relabel(live, right)  # what was wrong is right again: no command is needed
        healthy_again = eventually(
            lambda: live.services.get("broken").state is ServiceState.HEALTHY, "recovery"
        )
        assert healthy_again
    finally:
        relabel(live, right)
        live.services.delete(live.services.get("broken"))


def test_two_supervisors_do_not_run(live, service):
    command = [sys.executable, "-m", supervision.MODULE, str(live.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "Supervisor ends" in done.stderr
    assert len(supervision.supervisors(live.store)) == 1


@pytest.mark.slow
def test_a_replica_that_hangs_is_ended_and_replaced(live, service):
    """The supervisor asks 3 times for 3 s; the calls that the replica has are made again on another."""
    victim = max(replicas(live))
    process = replicas(live)[victim].process
    os.kill(process.pid, signal.SIGSTOP)
    with under_load(service, callers=3):
        eventually(lambda: victim not in replicas(live), "the end of what hangs")
        eventually(lambda: live.services.get("clothes").ready == 2, "another replica")


def test_a_deleted_service_leaves_nothing_running(live, service):
    live.services.delete(service)
    assert live.services.list() == []
    assert live.services.replicas() == []
    eventually(lambda: Launcher(live.store).found() == {}, "the end of all processes")
    eventually(lambda: supervision.supervisors(live.store) == [], "the end of the supervisor")
    assert list(live.store.run.glob("ready/*")) == []


def test_when_the_folder_is_gone_all_ends(live, deployed):
    """The last test."""
    service = healthy(live, live.services.deploy("again", "fashion:1", "here"))
    known = [door(live), *(replica.process for replica in live.services.replicas(service))]
    known += supervision.supervisors(live.store)
    shutil.rmtree(live.folder)
    eventually(lambda: not any(process.is_alive() for process in known), "the end of all processes")
