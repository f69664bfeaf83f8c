"""The lock of the supervisor, and processes that are started and found; here they run no service."""

import signal
import subprocess
import sys
import time

import pytest

from gatecast import __version__
from gatecast.workspace import Workspace, launching, supervision
from gatecast.workspace.launching import Launcher, bound_log, last_lines, send
from gatecast.workspace.process import Background, Process


@pytest.fixture
def store(tmp_path):
    return Workspace.create(tmp_path / "demo").store


def eventually(condition):
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_one_has_the_lock(store):
    first, second = supervision.Lock(store), supervision.Lock(store)
    assert not supervision.is_running(store)
    assert first.take()
    assert supervision.is_running(store)
    assert not second.take()
    assert (first.is_held(), second.is_held()) == (True, False)
    first.give_back()
    assert not supervision.is_running(store)
    assert second.take()
    second.give_back()


def test_the_lock_of_a_folder_that_was_replaced_is_not_held_any_more(store):
    lock = supervision.Lock(store)
    assert lock.take()
    path = store.run / "supervisor.lock"
    path.unlink()
    assert not lock.is_held()
    path.touch()
    assert not lock.is_held()
    lock.give_back()


def test_a_supervisor_with_nothing_to_run_ends(store):
    supervision.ensure(store)
    supervision.ensure(store)
    assert len(supervision.supervisors(store)) <= 1  # on a busy machine it may have ended before
    log = store.log("supervisor", "supervisor")
    eventually(lambda: log.read_text().count("Supervisor ends") == 1)
    eventually(lambda: not supervision.supervisors(store))
    assert log.read_text().count("Supervisor of workspace demo") == 1
    supervision.kill_all(store)


def test_a_supervisor_ends_with_the_first_signal(store):
    supervision.ensure(store)
    (process,) = eventually(lambda: supervision.supervisors(store))
    eventually(lambda: supervision.is_running(store))
    send(process, signal.SIGTERM)
    eventually(lambda: not process.is_alive())
    supervision.kill_all(store)


@pytest.fixture
def launcher(store, monkeypatch):
    """Starts, instead of gatecast, a Python that does what its first argument says."""
    launcher = Launcher(store)

    def other(command, output, cwd):
        return Background([sys.executable, "-c", command[4], *command[5:]], output, cwd)

    monkeypatch.setattr(launching, "Background", other)
    yield launcher
    for process in launcher.found().values():
        send(process, signal.SIGKILL)
        eventually(lambda process=process: launcher.end(process))


SLEEP = "import time; time.sleep(60)"


def test_a_process_is_found_by_whoever_looks_and_its_end_is_told(store, launcher, tmp_path):
    log = tmp_path / "log"
    process = launcher.start("cats.1", [SLEEP], log)
    other = Launcher(store)
    eventually(lambda: other.found() == {"cats.1": process})
    assert (launcher.end(process), other.end(process)) == (None, None)
    send(process, signal.SIGKILL)
    eventually(lambda: launcher.end(process) == "was ended by SIGKILL")
    assert other.end(process) == "ended"
    assert other.found() == {}
    launcher.forget("cats.1", process)
    assert Launcher(Workspace.create(tmp_path / "other").store).found() == {}


def test_the_status_of_a_process_is_told_and_its_last_lines(launcher, tmp_path):
    log = tmp_path / "log"
    text = "import sys; print('one\\n\\n two \\nthree\\nfour'); sys.exit(3)"
    process = launcher.start("cats.1", [text], log)
    eventually(lambda: launcher.end(process) == "ended with status 3")
    assert last_lines(log) == "two three four"
    assert last_lines(tmp_path / "none") == ""


def test_ports_are_those_that_the_very_process_has_written(store, launcher, tmp_path):
    write = (
        "import json, os, sys, time; file = open(sys.argv[2], 'w')\n"
        "json.dump({'pid': os.getpid(), 'port': 1, 'rest_port': 2}, file); file.close(); time.sleep(60)"
    )
    process = launcher.start("cats.1", [write], tmp_path / "log")
    ports = eventually(lambda: launcher.ports("cats.1", process))
    assert (ports.port, ports.rest_port) == (1, 2)
    assert launcher.ports("cats.1", Process(process.pid + 1, 1)) is None
    assert launcher.ports("cats.2", process) is None
    (store.run / "ready/cats.1.json").write_text("{")
    assert launcher.ports("cats.1", process) is None


def test_a_signal_to_a_process_that_has_ended_is_no_error(launcher, tmp_path):
    process = launcher.start("cats.1", ["pass"], tmp_path / "log")
    eventually(lambda: launcher.end(process))
    send(process, signal.SIGTERM)
    send(Process(process.pid, process.start + 1), signal.SIGTERM)


def test_a_log_is_cut_to_its_last_lines_and_written_on(tmp_path):
    log = tmp_path / "log"
    with log.open("ab") as writer:  # as a process that goes on writing
        writer.write(b"".join(b"line %03d\n" % number for number in range(100)))
        writer.flush()
        bound_log(log, 10_000, 100)
        assert log.stat().st_size == 900
        bound_log(log, 500, 100)
        writer.write(b"new\n")
    lines = log.read_text().splitlines()
    assert lines == [f"line {number:03}" for number in range(89, 100)] + ["new"]
    bound_log(tmp_path / "none", 0, 0)


def lock_text(store):
    return (store.run / "supervisor.lock").read_text()


def test_who_has_the_lock_says_which_it_is(store):
    lock = supervision.Lock(store)
    assert supervision.running(store) is None
    (store.run / "supervisor.lock").write_text("something longer that stood there before, and goes")
    assert lock.take()
    assert lock_text(store) == f"{Process.current()} {__version__}\n"
    assert supervision.running(store) == supervision.Running(Process.current(), __version__)
    (store.run / "supervisor.lock").write_text("")  # it has just taken it
    assert supervision.running(store) is None
    lock.give_back()


@pytest.fixture
def older(store):
    """A supervisor of another version: a process that has the lock, and ends by SIGTERM."""
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from gatecast.workspace import supervision\nfrom gatecast.workspace.store import Store\n"
        "supervision.__version__ = '0.0.1'\nlock = supervision.Lock(Store(Path(sys.argv[1])))\n"
        "assert lock.take()\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(store.folder)]) as child:
        eventually(lambda: supervision.running(store))
        yield child
        child.kill()
    supervision.kill_all(store)


def test_a_supervisor_of_another_version_is_replaced(store, older):
    assert supervision.running(store).version == "0.0.1"
    supervision.ensure(store)
    assert older.wait(10) == -signal.SIGTERM
    eventually(lambda: supervision.supervisors(store))
    log = store.log("supervisor", "supervisor")
    eventually(lambda: f"Supervisor of workspace demo, Gatecast {__version__}" in log.read_text())


def test_a_process_that_is_older_than_what_is_installed_replaces_none(store, older, monkeypatch):
    monkeypatch.setattr(supervision, "_installed", lambda: "0.0.1")
    supervision.ensure(store)
    assert older.poll() is None
    assert supervision.supervisors(store) == []


def test_a_supervisor_that_does_not_end_is_left(store, older, monkeypatch):
    monkeypatch.setattr(supervision, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(supervision, "send", lambda *_: None)
    supervision.ensure(store)
    assert older.poll() is None
    assert supervision.supervisors(store) == []
    monkeypatch.undo()
