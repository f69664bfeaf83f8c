import json
import socket

import pytest

from gatecast.workspace import front_door_keeper
from gatecast.workspace.front_door_keeper import FrontDoorKeeper, RoutedService, free_host
from gatecast.workspace.launching import FRONT_DOOR, Ports

CATS = RoutedService("cats", ["resnet50"], [("127.0.0.1:1", "127.0.0.1:2")])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(front_door_keeper, "pause_s", lambda failures: 0.0)


@pytest.fixture
def taken():
    """A port that is taken on 127.0.0.1 alone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def keeper(ws, launcher, monkeypatch, taken):
    monkeypatch.setenv("GATECAST_SCORING_PORT", str(taken))
    return FrontDoorKeeper(ws.store, launcher)


def arguments(launcher):
    words = launcher.started[FRONT_DOOR]
    return dict(zip(words[2::2], words[3::2], strict=True))


def row(ws):
    with ws.store.reading() as database:
        found = database.execute("SELECT host, port, rest_port, ready FROM front_door").fetchone()
        return tuple(found) if found else None


def test_it_listens_at_the_first_free_address_with_the_port(ws, launcher, keeper, taken):
    assert not keeper.keep([CATS])
    assert arguments(launcher)["--host"] == "127.0.0.2"
    assert arguments(launcher)["--port"] == str(taken)
    assert row(ws) == ("127.0.0.2", taken, int(arguments(launcher)["--rest_api_port"]), 0)
    launcher.answering[FRONT_DOOR] = Ports(taken, 8501)
    assert keeper.keep([CATS])
    assert row(ws) == ("127.0.0.2", taken, 8501, 1)


def test_without_such_an_address_it_takes_any_port(ws, launcher, keeper, monkeypatch):
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        monkeypatch.setenv("GATECAST_SCORING_PORT", str(everywhere.getsockname()[1]))
        assert free_host(everywhere.getsockname()[1]) is None
        keeper.keep([CATS])
    assert arguments(launcher) == {"--host": "127.0.0.1", "--port": "0", "--rest_api_port": "0"}
    launcher.answering[FRONT_DOOR] = Ports(4000, 4001)
    assert keeper.keep([CATS])
    assert row(ws) == ("127.0.0.1", 4000, 4001, 1)


def test_without_the_right_to_bind_it_takes_any_port(launcher, keeper, monkeypatch):
    def refuse(host, port):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(front_door_keeper, "_bind", refuse)
    keeper.keep([CATS])
    assert arguments(launcher)["--port"] == "0"


def test_the_port_is_80_unless_told_otherwise(launcher, keeper, monkeypatch):
    asked = []
    monkeypatch.setattr(front_door_keeper, "free_host", lambda port: asked.append(port))
    for text in ("", "80x", "70000"):
        monkeypatch.setenv("GATECAST_SCORING_PORT", text)
        front_door_keeper._address(None, 0)
    monkeypatch.setenv("GATECAST_SCORING_PORT", "0")
    front_door_keeper._address(None, 0)
    assert asked == [80, 80, 80]


def test_one_that_died_starts_again_where_it_was(ws, launcher, keeper):
    keeper.keep([CATS])
    launcher.answering[FRONT_DOOR] = Ports(4000, 4001)
    keeper.keep([CATS])
    launcher.finish(FRONT_DOOR, "was ended by SIGKILL")
    assert not keeper.keep([CATS])
    assert arguments(launcher) == {"--host": "127.0.0.2", "--port": "4000", "--rest_api_port": "4001"}
    assert row(ws) == ("127.0.0.2", 4000, 4001, 0)
    assert ws.services.deploy("cats", "small", "here").scoring_uri == "http://127.0.0.2:4000/"


def test_if_its_address_is_taken_it_moves(launcher, keeper, ws, taken):
    keeper.keep([CATS])
    launcher.answering[FRONT_DOOR] = Ports(4000, 4001)
    keeper.keep([CATS])
    launcher.finish(FRONT_DOOR, "was ended by SIGKILL")
    keeper.keep([CATS])
    hosts = [(arguments(launcher)["--host"], arguments(launcher)["--port"])]
    for _ in range(4):
        launcher.finish(FRONT_DOOR)
        keeper.keep([CATS])
        hosts.append((arguments(launcher)["--host"], arguments(launcher)["--port"]))
    first_free = ("127.0.0.2", str(taken))
    assert ws.services.deploy("cats", "small", "here").scoring_uri is None
    assert hosts == [("127.0.0.2", "4000")] * 2 + [first_free] * 2 + [("127.0.0.1", "0")]
    assert keeper.problem == "Front door ended with status 1: log of front-door"
    launcher.answering[FRONT_DOOR] = Ports(5000, 5001)
    assert keeper.keep([CATS])
    assert keeper.problem == ""


def test_the_routes_are_written_whole_and_only_when_they_change(ws, keeper):
    path = ws.store.run / "routes.json"
    keeper.keep([CATS])
    assert json.loads(path.read_text()) == {
        "version": 1,
        "services": {
            "cats": {
                "models": ["resnet50"],
                "replicas": [{"address": "127.0.0.1:1", "rest_address": "127.0.0.1:2"}],
            }
        },
    }
    before = path.stat()
    keeper.keep([CATS])
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    keeper.keep([])
    assert json.loads(path.read_text())["services"] == {}
    assert path.stat().st_ino != before.st_ino
    path.unlink()
    keeper.keep([])
    assert path.exists()


def test_the_next_supervisor_takes_over_one_that_runs(ws, launcher, keeper):
    keeper.keep([CATS])
    launcher.answering[FRONT_DOOR] = Ports(4000, 4001)
    keeper.keep([CATS])
    launcher.started.clear()
    assert FrontDoorKeeper(ws.store, launcher).keep([CATS])
    assert launcher.started == {}


def test_it_ends_in_order(ws, launcher, keeper, monkeypatch):
    sent = []
    monkeypatch.setattr(front_door_keeper, "send", lambda process, number: sent.append(number.name))
    keeper.keep([CATS])
    assert not keeper.end()
    assert not keeper.end()
    assert sent == ["SIGTERM"]
    monkeypatch.setattr(front_door_keeper, "STOP_TIMEOUT_S", -1.0)
    assert not keeper.end()
    assert sent == ["SIGTERM", "SIGKILL"]
    launcher.finish(FRONT_DOOR)
    assert keeper.end()
    assert row(ws) is None
    assert not (ws.store.run / "routes.json").exists()
    assert keeper.end()


def test_one_that_is_ending_when_a_service_comes_is_followed_by_another(ws, launcher, keeper, monkeypatch):
    sent = []
    monkeypatch.setattr(
        front_door_keeper, "send", lambda process, number: sent.append((process, number.name))
    )
    keeper.keep([CATS])
    launcher.answering[FRONT_DOOR] = Ports(4000, 4001)
    assert keeper.keep([CATS])
    first = launcher.processes[FRONT_DOOR]
    assert not keeper.end()
    assert not keeper.keep([CATS])  # it runs still, but answers no new call
    assert launcher.processes[FRONT_DOOR] == first
    launcher.finish(FRONT_DOOR)
    assert not keeper.keep([CATS])
    second = launcher.processes[FRONT_DOOR]
    assert second != first
    launcher.answering[FRONT_DOOR] = Ports(4000, 4001)
    assert keeper.keep([CATS])
    assert not keeper.end()
    assert sent == [(first, "SIGTERM"), (second, "SIGTERM")]
    launcher.finish(FRONT_DOOR)
    assert keeper.end()
    assert row(ws) is None
