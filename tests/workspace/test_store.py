import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gatecast.errors import ConflictError, NotFoundError, WorkspaceError
from gatecast.workspace import Workspace
from gatecast.workspace.process import Process


@pytest.fixture
def dead():
    """A process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process.of(child.pid)
    assert process.is_alive()
    child.communicate()
    return process


def test_a_workspace_has_the_settings_it_was_made_with(tmp_path):
    ws = Workspace.create(
        tmp_path / "w", name="prod", resource_group="rg", location="eastus", subscription_id="s-1"
    )
    for seen in (ws, Workspace.open(tmp_path / "w")):
        assert (seen.name, seen.resource_group, seen.location, seen.subscription_id) == (
            "prod",
            "rg",
            "eastus",
            "s-1",
        )
        assert seen.folder == tmp_path / "w"


def test_by_default_it_is_called_as_its_folder(tmp_path):
    ws = Workspace.create(tmp_path / "a/b/demo")
    assert (ws.name, ws.resource_group, ws.location) == ("demo", "local", "local")
    assert len(ws.subscription_id) == 36


def test_a_wrong_name_makes_no_workspace(tmp_path):
    with pytest.raises(WorkspaceError, match="^Name of a workspace must be .* not 'my demo'$") as error:
        Workspace.create(tmp_path / "my demo")
    assert error.value.hint == "Name it yourself: `--name NAME`; the folder may be called anything."
    assert os.listdir(tmp_path) == []
    assert Workspace.create(tmp_path / "my demo", name="demo").name == "demo"


def test_a_folder_becomes_a_workspace_once(ws):
    before = sorted(os.listdir(ws.folder))
    with pytest.raises(ConflictError, match=f"^Folder {ws.folder} must not be a workspace yet; it is one$"):
        Workspace.create(ws.folder)
    assert sorted(os.listdir(ws.folder)) == before == [".gatecast"]


def test_of_many_who_create_the_same_one_wins(tmp_path):
    results = []

    def create():
        try:
            results.append(Workspace.create(tmp_path / "w").subscription_id)
        except ConflictError:
            results.append(None)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [result for result in results if result]
    assert len(results) == 8
    assert won == [Workspace.open(tmp_path / "w").subscription_id]
    assert os.listdir(tmp_path / "w") == [".gatecast"]


def test_it_is_found_by_name_by_environment_and_upward(ws, monkeypatch, tmp_path):
    deep = ws.folder / "a/b"
    deep.mkdir(parents=True)
    monkeypatch.delenv("GATECAST_WORKSPACE", raising=False)
    monkeypatch.chdir(deep)
    assert Workspace.open().folder == ws.folder
    other = Workspace.create(tmp_path / "other")
    monkeypatch.setenv("GATECAST_WORKSPACE", str(other.folder))
    assert Workspace.open().folder == other.folder
    assert Workspace.open(ws.folder).folder == ws.folder


def test_a_relative_folder_stays_the_same_when_the_current_folder_changes(ws, monkeypatch, tmp_path):
    monkeypatch.chdir(ws.folder.parent)
    opened = Workspace.open("demo")
    monkeypatch.chdir("/")
    assert opened.models.list() == []


def test_where_there_is_none_it_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.delenv("GATECAST_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        NotFoundError, match="A workspace must be named, or be in the current folder"
    ) as caught:
        Workspace.open()
    assert "gatecast workspace create DIR" in caught.value.hint
    (tmp_path / ".gatecast").mkdir()
    for folder in (tmp_path, tmp_path / "none", "/etc/passwd"):
        with pytest.raises(
            NotFoundError, match=f"^Folder {folder} must be a workspace, but has no .gatecast"
        ):
            Workspace.open(folder)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        WorkspaceError, match=f"^Workspace {tmp_path}/file/w cannot be created: Not a directory"
    ):
        Workspace.create(tmp_path / "file/w")


def damage(kind, path):
    if kind == "text":
        path.write_bytes(b"this is no database" * 100)
    elif kind == "torn":
        data = bytearray(path.read_bytes())
        data[200:] = bytes(255 - byte for byte in data[200:])
        path.write_bytes(data)
    elif kind == "short":
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "no table":
        database = sqlite3.connect(path)
        database.execute("DROP TABLE settings")
        database.close()


@pytest.mark.parametrize("kind", ["text", "torn", "short", "no table"])
def test_a_corrupt_database_is_told_and_left_alone(ws, kind):
    path = ws.store.root / "workspace.db"
    damage(kind, path)
    data = path.read_bytes()
    with pytest.raises(
        WorkspaceError, match=f"^Workspace {ws.folder} must have a sound database, not one with:"
    ):
        Workspace.open(ws.folder).models.list()
        _ = Workspace.open(ws.folder).name
    assert path.read_bytes() == data


def test_an_empty_database_is_told(ws):
    (ws.store.root / "workspace.db").write_bytes(b"")
    with pytest.raises(WorkspaceError, match="must have tables of version 1, not 0$") as caught:
        Workspace.open(ws.folder)
    assert "restore the folder" in caught.value.hint


def test_a_newer_workspace_is_refused_and_left_alone(ws):
    database = sqlite3.connect(ws.store.root / "workspace.db")
    database.execute("PRAGMA user_version = 2")
    database.close()
    (ws.store.root / "tmp/collect").touch()
    with pytest.raises(
        WorkspaceError, match=f"^Workspace {ws.folder} must have tables of version 1, not 2$"
    ) as caught:
        Workspace.open(ws.folder)
    assert caught.value.hint == "Use the Gatecast that made the workspace, or a newer one."
    assert (ws.store.root / "tmp/collect").exists()


def test_a_workspace_that_was_removed_is_not_made_anew(ws):
    shutil.rmtree(ws.folder)
    with pytest.raises(WorkspaceError, match="must be readable and writable: unable to open database file"):
        ws.models.list()
    assert not ws.folder.exists()


def test_a_missing_folder_inside_is_told(ws):
    shutil.rmtree(ws.store.root / "tmp")
    with pytest.raises(WorkspaceError, match="must be readable and writable: .*/tmp: No such file"):
        Workspace.open(ws.folder)


def test_a_change_is_whole_or_not_at_all(ws):
    with pytest.raises(RuntimeError), ws.store.transaction() as database:
        database.execute("INSERT INTO counters VALUES ('model', 'x', 7)")
        raise RuntimeError
    with ws.store.reading() as database:
        assert database.execute("SELECT * FROM counters").fetchall() == []


def test_a_reader_sees_one_state(ws, tmp_path):
    (tmp_path / "x").touch()
    with ws.store.reading() as database:
        count = database.execute("SELECT count(*) FROM models").fetchone()[0]
        ws.models.register("x", tmp_path / "x")
        assert database.execute("SELECT count(*) FROM models").fetchone()[0] == count == 0
    assert len(ws.models.list()) == 1


def test_a_writer_that_waits_too_long_is_told(ws, tmp_path, monkeypatch):
    (tmp_path / "x").touch()
    monkeypatch.setattr("gatecast.workspace.store.PATIENCE_S", 0.05)
    with ws.store.transaction(), pytest.raises(WorkspaceError, match="is changed by another process since"):
        ws.models.register("x", tmp_path / "x")


def test_a_contradiction_is_a_conflict(ws):
    with (
        pytest.raises(ConflictError, match="cannot be changed so: FOREIGN KEY constraint failed"),
        ws.store.transaction() as database,
    ):
        database.execute("INSERT INTO model_files VALUES ('none', 1, 'a', 0, 'sha256:0')")


def test_eight_processes_register_one_name_and_get_versions_1_to_8(ws, tmp_path, check):
    script = tmp_path / "register.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from gatecast.workspace import Workspace\n"
        "folder, name = sys.argv[1:]\n"
        "path = Path(folder).parent / f'{name}.bin'\n"
        "path.write_bytes(name.encode() * 100_000)\n"
        "while not Path(folder, 'go').exists():\n"
        "    time.sleep(0.005)\n"
        "model = Workspace.open(folder).models.register('net', path, tags={'by': name})\n"
        "Workspace.open(folder).models.update(model, add_tags={'done': 'yes'})\n"
        "print(model.version)\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, script, str(ws.folder), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(8)
    ]
    (ws.folder / "go").touch()
    printed = [child.communicate(timeout=60)[0].strip() for child in children]
    assert sorted(printed) == ["1", "2", "3", "4", "5", "6", "7", "8"]
    models = ws.models.list("net")
    assert sorted(model.tags["by"] for model in models) == ["0", "1", "2", "3", "4", "5", "6", "7"]
    assert {model.tags["done"] for model in models} == {"yes"}
    for model in models:
        assert ws.models.file(model).read_bytes() == model.tags["by"].encode() * 100_000
    check(ws)


class FullDisk:
    """Lets `room` bytes be written to files under a folder, then has no space left."""

    def __init__(self, monkeypatch, room):
        self.room = room
        monkeypatch.setattr("gatecast.workspace.blobs.os.fsync", self.fsync)

    def fsync(self, handle):
        size = os.fstat(handle).st_size
        if size > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_changes_nothing(ws, tmp_path, monkeypatch, check):
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "a").write_bytes(b"small")
    (folder / "b").write_bytes(b"large" * 1000)
    FullDisk(monkeypatch, room=1000)
    with pytest.raises(WorkspaceError, match="cannot be written: No space left on device") as caught:
        ws.models.register("net", folder)
    assert "Make room on the disk that holds the workspace; nothing was changed." in caught.value.hint
    assert ws.models.list() == []
    check(ws)


def test_a_disk_that_is_full_for_the_database_changes_nothing(ws, tmp_path, monkeypatch, check):
    (tmp_path / "x").write_bytes(b"x")
    connect = sqlite3.connect

    def full(*given, **named):
        database = connect(*given, **named)
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        return database

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(
        WorkspaceError, match=f"^Workspace {ws.folder} cannot be opened or changed: the disk is full$"
    ):
        for number in range(100):
            ws.models.register(f"net{number}", tmp_path / "x", description="long" * 1000)
    monkeypatch.undo()
    check(ws)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted: needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_on_a_small_disk_what_fits_is_registered_and_what_does_not_leaves_nothing(
    small_disk, tmp_path, check
):
    ws = Workspace.create(small_disk / "demo")
    (tmp_path / "mid").write_bytes(os.urandom(800_000))
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    model = ws.models.register("mid", tmp_path / "mid")
    with pytest.raises(WorkspaceError, match="cannot be written: No space left on device$"):
        ws.models.register("big", tmp_path / "big")
    check(ws)
    fill = small_disk / "fill"
    with pytest.raises(OSError, match="No space left"), fill.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    for change in (lambda: ws.models.register("more", tmp_path / "mid"), ws.models.list):
        with pytest.raises(WorkspaceError) as caught:
            change()
        assert "Make room on the disk that holds the workspace; nothing was changed." in caught.value.hint
    fill.unlink()
    assert Workspace.open(ws.folder).models.list() == [model]
    ws.models.delete(model)
    check(ws)


def test_what_a_dead_process_left_is_removed_and_what_a_live_one_has_stays(ws, dead):
    temporary = ws.store.root / "tmp"
    left = temporary / f"{dead}-0a"
    left.mkdir()
    (left / "half").write_bytes(b"half")
    (temporary / "rubbish").touch()
    orphan = ws.store.blobs.path("sha256:" + "0" * 64)
    orphan.write_bytes(b"of the dead")
    with ws.store.blobs.scratch() as mine:
        Workspace.open(ws.folder)
        assert list(temporary.iterdir()) == [mine]
    assert not orphan.exists()
    assert list(temporary.iterdir()) == []


def test_while_a_writer_is_at_work_nothing_is_collected_and_later_it_is(ws):
    orphan = ws.store.blobs.path("sha256:" + "0" * 64)
    orphan.write_bytes(b"x")
    with ws.store.blobs.adding() as adding:
        blob = adding.add([b"new"])
        assert ws.store.blobs.collect() == []
        assert ws.store.blobs.existing(blob.digest).read_bytes() == b"new"
        assert orphan.exists()
    Workspace.open(ws.folder)
    assert os.listdir(ws.store.root / "blobs/sha256") == []
    assert os.listdir(ws.store.root / "tmp") == []


def test_a_delete_that_died_before_it_collected_is_finished_later(ws, tmp_path, monkeypatch):
    (tmp_path / "x").touch()
    model = ws.models.register("x", tmp_path / "x")
    with monkeypatch.context() as patch:
        patch.setattr("gatecast.workspace.blobs.Blobs.collect", lambda self: [])
        ws.models.delete(model)
    blob = ws.store.blobs.path(model.digest)
    assert blob.exists()
    Workspace.open(ws.folder)
    assert not blob.exists()


def test_a_create_that_died_is_cleaned_up(tmp_path, dead):
    left = tmp_path / f".gatecast.{dead}-0a"
    left.mkdir()
    mine = tmp_path / f".gatecast.{Process.current()}-0a"
    mine.mkdir()
    Workspace.create(tmp_path)
    assert not left.exists()
    left.mkdir()
    Workspace.open(tmp_path)
    assert not left.exists()
    assert mine.exists()


def test_processes_are_told_apart_by_their_start(dead):
    me = Process.current()
    assert me.is_alive()
    assert Process.from_text(str(me)) == me
    assert not Process(me.pid, me.start + 1).is_alive()
    assert not dead.is_alive()
    assert Process.of(dead.pid).start == 0
    assert not Process.of(dead.pid).is_alive()
    for text in ("", "7", "-", "a-b", "7-", "1-2-3x", "collect"):
        assert Process.from_text(text) is None


def test_a_process_is_alive_as_long_as_one_of_its_threads():
    """What is killed may still hold locks while its first thread has ended and others have not."""
    program = """
import ctypes, platform, sys, threading
threading.Thread(target=sys.stdin.readline).start()
ctypes.CDLL(None).syscall(60 if platform.machine() == "x86_64" else 93, 0)  # ends this thread alone
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as child:
        process, stat = Process.of(child.pid), Path(f"/proc/{child.pid}/stat")
        deadline = time.monotonic() + 30
        while ") Z " not in stat.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert process.is_alive()
        child.kill()
        while process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_one_that_has_ended_and_was_not_waited_for_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = Process.of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child.pid}").exists()
    assert not process.is_alive()
    child.wait()


def names(store):
    with store.reading() as database:
        return [row[0] for row in database.execute("SELECT name FROM computes ORDER BY name")]


def insert(database, name):
    database.execute("INSERT INTO computes VALUES (?, 'local', 1, '', '{}', '{}', '', '')", (name,))


def test_a_held_connection_is_opened_once_and_each_use_is_whole(ws, monkeypatch):
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *given, **named: opened.append(1) or connect(*given, **named)
    )
    with ws.store.held():
        with ws.store.transaction() as database:
            insert(database, "kept")
        with pytest.raises(ZeroDivisionError), ws.store.transaction() as database:
            insert(database, "lost")
            raise ZeroDivisionError
        with pytest.raises(ConflictError), ws.store.transaction() as database:
            insert(database, "kept")
        assert names(ws.store) == ["kept"]
        assert opened == [1]
        thread = threading.Thread(target=lambda: names(ws.store))  # another thread has one of its own
        thread.start()
        thread.join()
        assert opened == [1, 1]
        with Workspace.open(ws.folder).store.transaction() as database:  # what others write is seen at once
            insert(database, "other")
        assert names(ws.store) == ["kept", "other"]
    opened.clear()
    assert names(ws.store) == ["kept", "other"]
    assert opened == [1]
