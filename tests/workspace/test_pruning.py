import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from gatecast.errors import NotFoundError, WorkspaceError
from gatecast.workspace import pruning
from gatecast.workspace.layer_cache import LayerCache, cache_folder
from gatecast.workspace.layers import bytes_entry
from gatecast.workspace.operations import State, insert

DAY_S = 86400


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache; the next image would take its layers base and libraries."""
    monkeypatch.setenv("GATECAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pruning, "recipe_key", lambda: "base")
    monkeypatch.setattr(pruning, "SUITES", {pruning.PYTHON: "bookworm"})
    monkeypatch.setattr(pruning, "libraries_key", lambda _: "libraries")
    return LayerCache(cache_folder())


@pytest.fixture
def operation(ws):
    """Make an operation that ended some days ago, with a log; return its id."""

    def make(days, state=State.FAILED, kind="convert"):
        ended = datetime.now(UTC) - timedelta(days=days)
        with ws.store.transaction() as database:
            identity = insert(database, kind, "net:1", {})
            database.execute(
                "UPDATE operations SET state = ?, ended_time = ? WHERE id = ?",
                (state, None if not state.ended else ended.isoformat(timespec="microseconds"), identity),
            )
        ws.operations.get(identity).log.write_text("word\n")
        return identity

    return make


def known(ws):
    return {operation.id for operation in ws.operations.list()}


def test_operations_that_ended_long_ago_go_with_their_logs(ws, operation, check):
    old = [operation(31, state) for state in (State.FAILED, State.SUCCEEDED, State.CANCELLED)]
    new, running = operation(29), operation(31, State.RUNNING)
    logs = sorted(ws.operations.get(one).log for one in old)
    pruned = ws.prune()
    assert {one.id for one in pruned.operations} == {*old}
    assert (pruned.logs, pruned.layers, pruned.size) == (tuple(logs), (), 15)
    assert known(ws) == {new, running}
    assert [log.exists() for log in logs] == [False] * 3
    assert ws.operations.read_log(ws.operations.get(new)) == "word\n"
    with pytest.raises(NotFoundError):
        ws.operations.get(old[0])
    assert ws.prune() == pruning.Pruned((), (), (), 0)
    check(ws)


def test_a_dry_run_tells_the_same_and_removes_nothing(ws, operation, cache):
    old = operation(31)
    layer = cache.add("old", "libraries", [bytes_entry("a", b"a")])
    age(cache, "old", 31)
    told = ws.prune(dry_run=True)
    assert known(ws) == {old} and told.logs[0].exists() and layer.path.exists()
    assert ws.prune() == told
    assert known(ws) == set() and not told.logs[0].exists() and not layer.path.exists()


def test_the_operation_of_an_image_stays(ws, operation, tmp_path, check):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"x")
    ws.models.register("net", path)
    identity = operation(400, State.SUCCEEDED, "image")
    with ws.store.transaction() as database:
        database.execute(
            "INSERT INTO images VALUES ('made', 1, 'Failed', 'tiny', NULL, 0, '{}', '{}', '{}', '', ?, ?)",
            (datetime.now(UTC).isoformat(), identity),
        )
    assert ws.prune(0).operations == ()
    assert ws.images.get("made").log.read_text() == "word\n"
    ws.images.delete(ws.images.get("made"))
    assert [one.id for one in ws.prune(0).operations] == [identity]
    check(ws)


def test_logs_of_what_is_not_in_the_workspace_go_and_others_stay(ws, operation):
    kept = [ws.store.log(*which) for which in (("supervisor", "supervisor"), ("front-door", "front-door"))]
    kept.append(ws.operations.get(operation(1)).log)
    gone = [ws.store.log(*which) for which in (("convert", "0" * 32), ("service", "x"), ("replica", "x.1"))]
    for log in kept + gone:
        log.write_text("word\n")
    assert ws.prune().logs == tuple(sorted(gone))
    assert [log.exists() for log in kept] == [True] * 3


def age(cache, key, days):
    """Make a layer one that was used some days ago."""
    for path in cache.folder.glob(f"*{key}.*"):
        os.utime(path, (time.time() - days * DAY_S,) * 2)


def test_layers_that_no_image_took_go_but_for_those_of_the_next_image(ws, cache):
    entries = [bytes_entry("a", b"content")]
    for key in ("base", "libraries", "old", "new", "taken"):
        cache.add(key, "libraries", entries)
        age(cache, key, 31)
    age(cache, "new", 29)
    assert cache.get("taken") is not None  # an image takes it now
    unfinished = cache.folder / ".old.tar.gz.1-00.tmp"
    unfinished.write_bytes(b"half")
    age(cache, "old", 31)
    pruned = ws.prune()
    assert [path.name for path in pruned.layers] == [unfinished.name, "old.json", "old.tar.gz"]
    keys = {path.name.partition(".")[0] for path in cache.folder.iterdir()}
    assert keys == {"base", "libraries", "new", "taken"}


def test_a_cache_that_was_never_made_is_no_fault(ws):
    assert ws.prune(0).layers == ()


@pytest.mark.parametrize("days", [-1, float("nan"), 1e9])
def test_days_must_be_a_length_of_time(ws, days):
    with pytest.raises(WorkspaceError, match="Days must be from 0 to 36500, not"):
        ws.prune(days)
