"""`gatecast compute`, `service` and `status`: what they print, without processes."""

import json
import os

import pytest

from gatecast import __version__
from gatecast.cli import main
from gatecast.workspace import operations, supervision


@pytest.fixture(autouse=True)
def here(ws, memory, monkeypatch):
    """Run in the workspace's folder."""
    monkeypatch.chdir(ws.folder)
    monkeypatch.delenv("GATECAST_WORKSPACE", raising=False)
    artifact = ws.folder.parent / "net.gcast"
    monkeypatch.setattr("gatecast.workspace.images.Images.artifact", lambda self, image: artifact)


@pytest.fixture
def run(capfd):
    """Run a command; return status, stdout and stderr."""

    def run(*words):
        status = main(words)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


def table(text):
    """Rows of a printed table, as lists of words."""
    lines = [line for line in text.splitlines() if line.strip() and not set(line.strip()) <= set("─ ")]
    return [line.split() for line in lines]


def state_to(ws, name, state, reason=""):
    with ws.store.transaction() as database:
        database.execute("UPDATE services SET state = ?, reason = ? WHERE name = ?", (state, reason, name))


def test_computes_are_made_listed_shown_and_deleted(run, ws):
    assert run("compute", "create", "there", "--nodes", "2", "--tag", "a=b") == (
        *(0, "", "Created compute there, local, nodes: 2\n"),
    )
    ws.services.deploy("one", "small", "there")
    assert table(run("compute", "list")[1]) == [
        ["compute", "kind", "nodes", "free", "state", "services"],
        ["here", "local", "4", "4", "Succeeded"],
        ["there", "local", "2", "1", "Succeeded", "one"],
    ]
    shown = run("compute", "show", "there")[1]
    assert [line.split() for line in shown.splitlines()][-1] == ["services", "one"]
    document = json.loads(run("compute", "show", "there", "--json")[1])
    assert (document["nodes"], document["tags"], document["services"]) == (2, {"a": "b"}, ["one"])
    assert [compute["name"] for compute in json.loads(run("compute", "list", "--json")[1])] == [
        "here",
        "there",
    ]
    assert run("compute", "delete", "here") == (0, "", "Deleted compute here\n")
    assert run("compute", "delete", "there") == (
        1,
        "",
        "error: Compute there must have no services to be deleted, but has: one\n"
        "hint: Delete them first: `gatecast service delete one`.\n",
    )


def test_no_computes_are_told(run, ws):
    ws.computes.delete(ws.computes.get("here"))
    assert run("compute", "list") == (0, "", "No computes\n")


def test_a_deploy_need_not_be_waited_for(run, ws):
    status, out, _ = run(
        *("service", "deploy", "one", "--image", "small:1", "--compute", "here", "--replicas", "2"),
        *("--threads", "3", "--tag", "a=b", "--no-wait", "--json"),
    )
    document = json.loads(out)
    assert status == 0
    assert (document["name"], document["state"], document["replicas"]) == ("one", "Transitioning", 2)
    assert (document["threads"], document["tags"], document["scoring_uri"]) == (3, {"a": "b"}, None)
    assert run("service", "update", "one", "--image", "small:2", "--no-wait")[0] == 0
    assert ws.services.get("one").image == "small:2"


def test_a_deploy_that_does_not_become_healthy_in_time_is_an_error(run, ws):
    status, out, err = run(
        *("service", "deploy", "one", "--image", "small", "--compute", "here", "--timeout", "0.05")
    )
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        "Service one: Transitioning",
        "error: Service one must be healthy within 0.05 s, but is not",
        "hint: It goes on: `gatecast service show one`.",
    ]


def test_a_service_that_failed_is_an_error_with_the_end_of_its_log(run, ws):
    ws.services.deploy("one", "small", "here")
    ws.store.log("service", "one").write_text("something\n")
    state_to(ws, "one", "Failed", "0 of 1 replicas ready. It broke")
    status, out, err = run("service", "update", "one", "--tag", "a=b")
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        "Service one: Failed, 0 of 1 replicas ready. It broke",
        "  --- events ---",
        "  something",
        "error: Service one must be healthy, but is Failed: 0 of 1 replicas ready. It broke",
        "hint: `gatecast service logs one` shows more; `… update` or `… delete` it.",
    ]


def test_what_does_not_fit_is_an_error_with_a_table(run):
    status, out, err = run(
        *("service", "deploy", "one", "--image", "small", "--compute", "here", "--replicas", "5")
    )
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        "error: Service one asks for 5 nodes, but compute here has 4 free of 4",
        "                    nodes  memory of each",
        "  compute here          4       25000 MiB",
        "  free                  4       25000 MiB",
        "  asked for by one      5         151 MiB",
        "hint: Delete a service, ask for fewer replicas, or make a compute with more nodes.",
    ]


def test_the_status_shows_the_latest_operations_and_counts_the_rest(run, ws):
    with ws.store.transaction() as database:
        for number in range(9):
            operations.insert(database, "convert", f"net:{number}", {})
    lines = run("status")[1].splitlines()
    assert sum(" convert " in line for line in lines) == 9
    assert sum(" image " in line for line in lines) == 2  # one of two operations, and the head of the images
    assert lines[-1] == "Older operations: 1; `gatecast operation list` shows them"


def test_the_status_names_the_supervisor(run, ws):
    lock = supervision.Lock(ws.store)
    assert lock.take()
    line = f"Supervisor: process {os.getpid()}, Gatecast {__version__}"
    assert run("status")[1].splitlines()[1] == line
    supervisor = json.loads(run("status", "--json")[1])["supervisor"]
    assert (supervisor["process"]["pid"], supervisor["version"]) == (os.getpid(), __version__)
    lock.give_back()


def test_services_are_listed_and_shown(run, ws):
    assert run("service", "list") == (0, "", "No services\n")
    ws.services.deploy("one", "small", "here", replicas=2, tags={"a": "b"})
    state_to(ws, "one", "Unhealthy", "1 of 2 replicas ready")
    with ws.store.transaction() as database:
        database.execute("INSERT INTO front_door VALUES (1, '', '127.0.0.1', 80, 8501, 1, 1)")
    assert table(run("service", "list")[1]) == [
        ["service", "state", "image", "compute", "ready", "scoring", "uri", "reason"],
        ["one", "Unhealthy", "small:2", "here", "0/2", "http://127.0.0.1/", *"1 of 2 replicas ready".split()],
    ]
    assert run("service", "list", "--tag", "a=x") == (0, "", "No such services\n")
    lines = dict(line.split(maxsplit=1) for line in run("service", "show", "one")[1].splitlines())
    assert lines["state"] == "Unhealthy"
    assert lines["reason"] == "1 of 2 replicas ready"
    assert lines["scoring"] == "uri  http://127.0.0.1/"
    assert lines["models"] == "net"
    document = json.loads(run("service", "show", "one", "--json")[1])
    assert (document["rest_uri"], document["replica_list"]) == ("http://127.0.0.1:8501/", [])
    assert [service["name"] for service in json.loads(run("service", "list", "--json")[1])] == ["one"]


def test_logs_are_printed_as_they_are(run, ws):
    ws.services.deploy("one", "small", "here")
    ws.store.log("replica", "one.1").write_text("a [b]\nc\n")
    assert run("service", "logs", "one") == (0, "--- replica 1 ---\na [b]\nc\n", "")
    assert run("service", "logs", "one", "--lines", "1") == (0, "--- replica 1 ---\nc\n", "")


def test_an_update_must_change_something(run, ws):
    ws.services.deploy("one", "small", "here")
    status, _, err = run("service", "update", "one")
    assert status == 2
    assert "Something must change: --image, --replicas, --threads, --tag, --remove-tag" in err


@pytest.mark.parametrize(
    "words", [("show", "x"), ("logs", "x"), ("delete", "x"), ("update", "x", "--tag", "a=b")]
)
def test_a_service_that_is_not_there_is_told(run, words):
    status, out, err = run("service", *words)
    assert (status, out) == (1, "")
    assert err == "error: Service x is not known\nhint: `gatecast service list` lists them.\n"


def test_the_status_shows_everything(run, ws):
    ws.services.deploy("one", "small:1", "here")
    status, out, err = run("status")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == f"Workspace demo in {ws.folder}"
    heads = [block.split("\n")[0].split()[0] for block in out.split("\n\n")[1:]]
    assert heads == ["model", "operation", "image", "compute", "service"]
    assert ["net:1", "one"] == [
        next(word for word in row if word in ("net:1", "one")) for row in (table(out)[2], table(out)[-1])
    ]
    document = json.loads(run("status", "--json")[1])
    assert document.pop("supervisor") is None
    assert {key: len(value) for key, value in document.items()} == {
        **{"workspace": 2, "models": 1, "operations": 2, "images": 2, "computes": 1},
        **{"services": 1, "replicas": 0},
    }


def test_without_a_workspace_each_command_says_so(run, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for words in (("status",), ("service", "list"), ("compute", "list")):
        status, _, err = run(*words)
        assert status == 1
        assert err.startswith("error: A workspace must be named")
