import os
import subprocess
import sys
import threading
import time

import pytest

from gatecast.errors import ConflictError, NotFoundError, WorkspaceError
from gatecast.workspace import State, Workspace, operations, worker
from gatecast.workspace.process import Process

SLEEPER = """
import time
from gatecast.workspace.log import say
def run(workspace, operation, request):
    say("[1/2] Sleeping")
    time.sleep(request["seconds"])
    say("[2/2] Awake")
    return "thing:1"
"""
TRAP = """
import signal, time
def run(workspace, operation, request):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def kind(monkeypatch, tmp_path):
    """Make the worker know one more kind of operation, ``test``, whose module has this text."""

    def define(text):
        (tmp_path / "kinds").mkdir(exist_ok=True)
        (tmp_path / "kinds/kind_of_test.py").write_text(text)
        (tmp_path / "kinds/worker_of_test.py").write_text(
            "import sys\nfrom gatecast.workspace import worker\n"
            "worker.KINDS['test'] = ('kind_of_test', 'run')\nsys.exit(worker.main(sys.argv[1:]))\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "kinds"))
        monkeypatch.setattr(operations, "WORKER", "worker_of_test")

    return define


def inserted(workspace, kind="convert", request=None):
    with workspace.store.transaction() as database:
        return operations.insert(database, kind, "net:1", request or {})


def test_an_operation_runs_in_a_process_of_its_own_and_has_states_a_log_and_a_result(ws, kind):
    kind(SLEEPER)
    started = ws.operations.start("test", "net:1", {"seconds": 0.3})
    assert started.state in (State.NOT_STARTED, State.RUNNING)
    assert started.log == ws.store.root / f"logs/test/{started.id}.log"
    seen = []
    ended = ws.operations.wait(started, timeout=30, on_update=lambda now: seen.append(now.state), poll=0.02)
    assert (ended.state, ended.result, ended.error) == (State.SUCCEEDED, "thing:1", "")
    assert ended.ended_time - ended.created_time >= type(ended.ended_time - ended.created_time)(seconds=0.3)
    assert list(dict.fromkeys(seen))[-2:] == [State.RUNNING, State.SUCCEEDED]
    lines = [line[20:] for line in ws.operations.read_log(ended).splitlines()]
    assert lines[0].startswith("Gatecast 0.")
    assert lines[0].endswith(", workspace demo: test net:1")
    assert lines[1:] == ["  seconds = 0.3", "[1/2] Sleeping", "[2/2] Awake", "Succeeded: thing:1"]
    assert Workspace.open(ws.folder).operations.get(ended.id) == ended


def test_what_lies_in_the_current_folder_is_no_module_of_a_worker(ws, kind, tmp_path, monkeypatch):
    kind(SLEEPER)
    (tmp_path / "json.py").write_text("raise SystemExit('not this')\n")
    monkeypatch.chdir(tmp_path)
    ended = ws.operations.wait(ws.operations.start("test", "net:1", {"seconds": 0}), timeout=30)
    assert (ended.state, ended.error) == (State.SUCCEEDED, "")


def test_what_started_it_may_end_first(ws, kind, tmp_path):
    kind(SLEEPER)
    script = (
        "import sys\nfrom gatecast.workspace import Workspace, operations\n"
        "operations.WORKER = 'worker_of_test'\n"
        "print(Workspace.open(sys.argv[1]).operations.start('test', 'net:1', {'seconds': 0.5}).id)\n"
    )
    identity = subprocess.check_output([sys.executable, "-c", script, str(ws.folder)], text=True).strip()
    assert ws.operations.wait(ws.operations.get(identity), timeout=30).state is State.SUCCEEDED


def test_waiting_ends_after_the_time_that_is_given(ws, kind):
    kind(SLEEPER)
    started = ws.operations.start("test", "net:1", {"seconds": 30})
    began = time.monotonic()
    assert not ws.operations.wait(started, timeout=0.3).state.ended
    assert 0.3 <= time.monotonic() - began < 5
    assert ws.operations.cancel(started).state is State.CANCELLED


def test_a_cancelled_operation_ends_at_once_and_has_no_result(ws, kind):
    kind(SLEEPER)
    started = ws.operations.start("test", "net:1", {"seconds": 30})
    while "Sleeping" not in ws.operations.read_log(started):
        time.sleep(0.02)
    with ws.store.reading() as database:
        process = Process.from_text(database.execute("SELECT process FROM operations").fetchone()[0])
    assert process.is_alive()
    cancelled = ws.operations.cancel(started)
    assert not process.is_alive()
    assert (cancelled.state, cancelled.result) == (State.CANCELLED, None)
    assert cancelled.error == "Operation was cancelled\nStart it again."
    assert ws.operations.cancel(cancelled) == cancelled
    assert ws.operations.wait(cancelled) == cancelled


def test_a_worker_that_does_not_listen_is_killed(ws, kind, monkeypatch):
    kind(TRAP)
    monkeypatch.setattr(operations, "PATIENCE_S", 0.2)
    started = ws.operations.start("test", "net:1", {})
    while "deaf" not in ws.operations.read_log(started):
        time.sleep(0.02)
    assert ws.operations.cancel(started).state is State.CANCELLED


def test_one_that_has_succeeded_is_not_cancelled(ws):
    identity = inserted(ws)
    ws.operations.claim(identity)
    with ws.store.transaction() as database:
        operations.succeed(database, identity, "x:1")
    assert ws.operations.cancel(ws.operations.get(identity)).state is State.SUCCEEDED


def test_nothing_is_made_for_an_operation_that_was_cancelled(ws):
    identity = inserted(ws)
    ws.operations.claim(identity)
    with ws.store.transaction() as database:
        database.execute("UPDATE operations SET state = 'Cancelled'")
    with (
        pytest.raises(
            ConflictError, match=f"^Operation {identity} must be running to succeed, but is Cancelled"
        ),
        ws.store.transaction() as database,
    ):
        database.execute("INSERT INTO counters VALUES ('model', 'x', 1)")
        operations.succeed(database, identity, "x:1")
    with ws.store.reading() as database:
        assert database.execute("SELECT * FROM counters").fetchall() == []


def test_succeeding_twice_is_no_error_unless_the_results_differ(ws):
    identity = inserted(ws)
    ws.operations.claim(identity)
    for _ in range(2):
        with ws.store.transaction() as database:
            operations.succeed(database, identity, "x:1")
    with pytest.raises(ConflictError, match="but is Succeeded"), ws.store.transaction() as database:
        operations.succeed(database, identity, "x:2")


def test_an_operation_is_claimed_once(ws):
    identity = inserted(ws)
    claimed = []

    def claim():
        try:
            claimed.append(ws.operations.claim(identity))
        except ConflictError as error:
            assert str(error) == f"Operation {identity} must not have started, but is Running"

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 1


@pytest.mark.parametrize("state", [State.NOT_STARTED, State.RUNNING])
def test_one_whose_process_is_gone_is_failed_for_whoever_looks(ws, state):
    identity = inserted(ws)
    with ws.store.transaction() as database:
        dead = Process.current().pid, Process.current().start - 1
        database.execute("UPDATE operations SET state = ?, process = ?", (state, f"{dead[0]}-{dead[1]}"))
    (listed,) = ws.operations.list()
    assert listed == ws.operations.get(identity)
    assert listed.state is State.FAILED
    assert listed.error.endswith("or the machine stopped\nSee its log, then start it again.")
    assert listed.ended_time is not None


def test_a_worker_that_dies_is_noticed_while_one_waits(ws, kind):
    kind("import os\ndef run(workspace, operation, request):\n    os.kill(os.getpid(), 9)\n")
    ended = ws.operations.wait(ws.operations.start("test", "net:1", {}), timeout=30)
    assert ended.state is State.FAILED


def test_a_worker_that_comes_too_late_does_nothing(ws, capsys):
    identity = inserted(ws)
    ws.operations.cancel(ws.operations.get(identity))
    assert worker.main([str(ws.folder), identity]) == 1
    assert f"Operation {identity} must not have started, but is Cancelled" in capsys.readouterr().out
    assert worker.main([str(ws.folder / "none"), identity]) == 1


def test_a_worker_that_cannot_be_started_is_a_failure(ws, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    started = ws.operations.start("convert", "net:1", {})
    assert started.state is State.FAILED
    assert started.error.startswith("Worker cannot be started: No such file or directory")


RAISED = {
    "from gatecast.errors import GraphError": (
        "GraphError('It must fit', hint='Make it fit.')",
        "It must fit\nMake it fit.",
    ),
    "x = 1": ("MemoryError()", "Memory is exhausted\nUse a machine with more memory."),
    "x = 2": (
        "OSError(28, 'No space left on device', '/x')",
        "/x: No space left on device\nCheck the path, its permissions, and the room on its disk.",
    ),
    "x = 3": (
        "KeyError('k')",
        "This is a bug in Gatecast: KeyError: 'k'\nReport the log of this operation.",
    ),
}


@pytest.mark.parametrize("head", RAISED)
def test_what_a_worker_raises_is_the_error_of_its_operation(ws, monkeypatch, tmp_path, capsys, head):
    raised, told = RAISED[head]
    (tmp_path / "raising_kind.py").write_text(
        f"{head}\ndef run(workspace, operation, request):\n    raise {raised}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "raising_kind", raising=False)
    monkeypatch.setitem(worker.KINDS, "convert", ("raising_kind", "run"))
    identity = inserted(ws)
    assert worker.main([str(ws.folder), identity]) == 1
    operation = ws.operations.get(identity)
    assert (operation.state, operation.error) == (State.FAILED, told)
    assert told.partition("\n")[0] in capsys.readouterr().out


def test_a_failed_operation_stays_as_it_is(ws):
    identity = inserted(ws)
    ws.operations.fail(identity, "first\nhint")
    ws.operations.fail(identity, "second\nhint")
    assert ws.operations.get(identity).error == "first\nhint"
    with pytest.raises(WorkspaceError, match="^Operation none must be in the workspace, but is not$"):
        ws.operations.fail("none", "x")


def test_operations_are_found_by_the_start_of_their_id(ws):
    one, two = inserted(ws), inserted(ws, kind="image")
    assert ws.operations.get(one[:12]).id == one
    for text in ("", "z", "%", "_" * 32, one + "0"):
        with pytest.raises(NotFoundError, match="^Operation must be a known one, not "):
            ws.operations.get(text)
    assert [o.id for o in ws.operations.list()] == [two, one]
    assert [o.id for o in ws.operations.list("image")] == [two]


def test_a_log_that_is_not_there_yet_is_empty(ws):
    assert ws.operations.read_log(ws.operations.get(inserted(ws))) == ""


def test_interrupting_who_started_it_does_not_end_it(ws, kind):
    kind(SLEEPER)
    started = ws.operations.start("test", "net:1", {"seconds": 0.3})
    with ws.store.reading() as database:
        process = Process.from_text(database.execute("SELECT process FROM operations").fetchone()[0])
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    assert ws.operations.wait(started, timeout=30).state is State.SUCCEEDED
