"""The commands over a workspace: what they print, what they refuse. `tests/workspace` tests what they do."""

import json
import os
import pty
import subprocess
import sys
import threading

import pytest

from gatecast import zoo
from gatecast.cli import main
from gatecast.interchange import export
from gatecast.workspace import Workspace


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "fashion.onnx"
    export(zoo.load("fashion"), path)
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; return its exit status, stdout and stderr."""
    monkeypatch.delenv("GATECAST_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def here(run, fashion):
    """A workspace with one model, in the current folder."""
    run("workspace", "create", ".", "--name", "demo")
    run("model", "register", "fashion", fashion, "--tag", "stage=test", "--description", "small one")
    return Workspace.open(".")


def test_workspace_create_and_show(run, tmp_path):
    status, out, err = run("workspace", "create", "w", "--name", "demo", "--location", "eastus")
    assert (status, out, err) == (0, "", f"Created workspace demo in {tmp_path}/w\n")
    status, out, err = run("workspace", "show", "--workspace", "w")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines.pop("subscription_id") == Workspace.open("w").subscription_id
    assert lines == {
        "name": "demo",
        "folder": f"{tmp_path}/w",
        "resource_group": "local",
        "location": "eastus",
        "models": "0, in 0 versions",
        "images": "0",
        "computes": "0",
        "services": "0",
        "operations": "0",
        "bytes": "0 B",
    }


def test_workspace_as_json(run, tmp_path):
    _, created, _ = run(
        "workspace", "create", "w", "--subscription-id", "s", "--resource-group", "r", "--json"
    )
    _, shown, _ = run("workspace", "show", "--workspace", "w", "--json")
    assert (
        json.loads(created)
        == json.loads(shown)
        == {
            "name": "w",
            "folder": f"{tmp_path}/w",
            "resource_group": "r",
            "location": "local",
            "subscription_id": "s",
            "models": 0,
            "images": 0,
            "computes": 0,
            "services": 0,
            "operations": 0,
            "bytes": 0,
        }
    )


def test_the_environment_names_the_workspace(run, here, monkeypatch, tmp_path):
    monkeypatch.setenv("GATECAST_WORKSPACE", str(tmp_path))
    monkeypatch.chdir("/")
    assert run("workspace", "show")[1].startswith("name             demo\n")


def test_register_and_list(run, here, fashion):
    status, out, err = run("model", "register", "fashion", fashion, "--property", "by=me")
    model = here.models.get("fashion")
    assert (status, out) == (0, "")
    size = f"{model.size / 1024:.1f} KiB"
    assert err == f"Registering {fashion} as fashion\nRegistered fashion:2, {size}, {model.digest}\n"
    status, out, err = run("model", "list")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["model", "created", "size", "tags", "description"]
    assert [(row[0], row[-1]) for row in rows[2:]] == [("fashion:2", "KiB"), ("fashion:1", "one")]
    assert "stage=test" in rows[3]


def test_list_filters(run, here, fashion):
    run("model", "register", "other", fashion, "--tag", "stage=live", "--property", "by=me")

    def ids(*arguments):
        return [model["id"] for model in json.loads(run("model", "list", "--json", *arguments)[1])]

    assert ids() == ["fashion:1", "other:1"]
    assert ids("other") == ["other:1"]
    assert ids("--tag", "stage") == ["fashion:1", "other:1"]
    assert ids("--tag", "stage=live") == ["other:1"]
    assert ids("--property", "by=me", "--tag", "stage=test") == []
    assert run("model", "list", "none")[2] == "No such models\n"


def test_an_empty_workspace_lists_nothing(run):
    run("workspace", "create", ".")
    assert run("model", "list") == (0, "", "No models\n")
    assert run("model", "list", "--json") == (0, "[]\n", "")
    assert run("operation", "list") == (0, "", "No operations\n")


def test_show_a_model(run, here):
    model = here.models.get("fashion")
    status, out, _ = run("model", "show", "fashion")
    assert status == 0
    for text in ("fashion:1", model.url, model.digest, "small one", "stage=test", "fashion.onnx"):
        assert text in out
    shown = json.loads(run("model", "show", "fashion:1", "--json")[1])
    assert shown == {
        "workspace": "demo",
        "name": "fashion",
        "version": 1,
        "digest": model.digest,
        "size": model.size,
        "is_folder": False,
        "file_name": "fashion.onnx",
        "files": [{"path": "fashion.onnx", "size": model.size, "digest": model.digest}],
        "tags": {"stage": "test"},
        "properties": {},
        "description": "small one",
        "created_time": model.created_time.isoformat(),
        "parent": None,
        "id": "fashion:1",
        "url": "gatecast://demo/models/fashion/1",
    }


def test_tag_a_model(run, here):
    assert run("model", "tag", "fashion", "a=b", "c=", "--remove", "stage") == (
        0,
        "",
        "fashion:1 has tags: a=b, c\n",
    )
    run("model", "tag", "fashion", "--description", "new", "--property", "p=1")
    model = here.models.get("fashion")
    assert (model.tags, model.description, model.properties) == ({"a": "b", "c": ""}, "new", {"p": "1"})
    assert run("model", "tag", "fashion", "--property", "p=2")[2].startswith(
        "error: Property p of fashion:1 must stay '1', not become '2'\nhint: Properties can be added"
    )
    assert run("model", "tag", "fashion")[0] == 2
    assert "must be KEY=VALUE, not 'word'" in run("model", "tag", "fashion", "word")[2]
    assert "must name a once" in run("model", "tag", "fashion", "a=1", "a=2")[2]


def test_download_a_model(run, here, fashion, tmp_path):
    status, out, err = run("model", "download", "fashion", "-o", "out")
    assert (status, out) == (0, "out/fashion.onnx\n")
    assert (tmp_path / "out/fashion.onnx").read_bytes() == fashion.read_bytes()
    assert run("model", "download", "fashion", "-o", "out")[2].endswith(
        "error: Path out/fashion.onnx must not exist\nhint: Remove it, or have it replaced: --replace.\n"
    )
    assert run("model", "download", "fashion", "-o", "out", "--replace")[0] == 0


def test_delete_models(run, here, fashion):
    run("model", "register", "fashion", fashion)
    assert run("model", "delete", "fashion")[2] == (
        "error: Version of model fashion must be given to delete it: it has 2\n"
        "hint: For example: gatecast model delete fashion:2\n"
    )
    assert run("model", "delete", "fashion:1", "none:1")[0] == 1
    assert len(here.models.list()) == 2
    assert run("model", "delete", "fashion:1") == (0, "", "Deleted fashion:1\n")
    assert run("model", "delete", "fashion") == (0, "", "Deleted fashion:2\n")
    assert here.models.list() == []


def test_convert_prints_each_step_and_the_result(run, here):
    status, out, err = run("convert", "fashion", "--outputs", "probabilities:0", "--format", "bfp5/bfp6")
    assert (status, out) == (0, "fashion.1.accelonnx:1\n")
    lines = err.splitlines()
    assert [line.partition("] ")[0] for line in lines[:-1]] == [
        f"Conversion of fashion:1 [{step}/5" for step in range(1, 6)
    ]
    assert lines[-1] == "Converted fashion:1 to fashion.1.accelonnx:1, bfp5/bfp6"
    assert here.models.get("fashion.1.accelonnx").properties["format"] == "bfp5/bfp6"


def test_a_conversion_that_fails_shows_its_log_and_its_reason(run, here):
    status, out, err = run("convert", "fashion", "--outputs", "nothing")
    (operation,) = here.operations.list()
    assert (status, out) == (1, "")
    assert err.endswith(
        "error: Conversion of fashion:1 failed: Output must be a tensor of the network, not nothing\n"
        f"hint: The network has the output probabilities. The whole log: {operation.log}\n"
    )
    assert "  outputs = ['nothing']" in err
    assert "Traceback" not in err
    assert len(here.models.list()) == 1


def test_operations_are_shown_waited_for_and_cancelled(run, here):
    identity = run("convert", "fashion", "--no-wait")[1].strip()
    status, out, _ = run("operation", "wait", identity[:10])
    assert (status, out) == (0, "fashion.1.accelonnx:1\n")
    rows = [line.split() for line in run("operation", "list")[1].splitlines()]
    assert rows[0] == ["operation", "kind", "of", "state", "started", "seconds", "result"]
    assert rows[2][:4] == [identity[:8], "convert", "fashion:1", "Succeeded"]
    shown = run("operation", "show", identity)[1]
    assert "result   fashion.1.accelonnx:1" in shown
    assert "request  format=bfp8" in shown
    assert json.loads(run("operation", "show", identity, "--json")[1])["state"] == "Succeeded"
    assert [o["id"] for o in json.loads(run("operation", "list", "--kind", "convert", "--json")[1])] == [
        identity
    ]
    assert "[5/5] Registering fashion.1.accelonnx" in run("operation", "log", identity)[1]
    assert run("operation", "cancel", identity)[2] == f"{identity} is Succeeded\n"
    other = json.loads(run("convert", "fashion", "--no-wait", "--json")[1])["id"]
    assert run("operation", "cancel", other)[2] == f"{other} is Cancelled\n"
    status, _, err = run("operation", "wait", other)
    assert status == 1
    assert "error: Operation convert of fashion:1 cancelled: Operation was cancelled" in err


def test_interrupting_the_wait_leaves_the_conversion_running(run, here, monkeypatch):
    def interrupt(self, operation, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("gatecast.workspace.operations.Operations.wait", interrupt)
    status, out, err = run("convert", "fashion")
    monkeypatch.undo()
    (operation,) = here.operations.list()
    assert (status, out) == (130, "")
    assert f"goes on: `gatecast operation wait {operation.id}` waits" in err
    assert here.operations.wait(operation, timeout=60).result == "fashion.1.accelonnx:1"


def test_prune_tells_what_it_removes(run, here, monkeypatch, tmp_path):
    monkeypatch.setenv("GATECAST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "word.onnx").write_text("word")
    run("model", "register", "word", tmp_path / "word.onnx")
    run("convert", "word")
    (operation,) = here.operations.list()
    told = f"  operation {operation.id[:8]}, convert word:1, Failed\n  {operation.log}\n"
    size = operation.log.stat().st_size
    assert run("workspace", "prune") == (0, "", "Removed operations: 0, logs: 0, files of layers: 0; 0 B\n")
    status, out, err = run("workspace", "prune", "--days", "0", "--dry-run")
    assert (status, out) == (0, "")
    assert err == f"{told}Would remove operations: 1, logs: 1, files of layers: 0; {size} B\n"
    status, out, err = run("workspace", "prune", "--days", "0", "--json")
    assert err.startswith(f"{told}Removed ")
    assert json.loads(out) == {
        "operations": [operation.id],
        "logs": [str(operation.log)],
        "layers": [],
        "bytes": size,
    }
    assert here.operations.list() == []


def test_convert_as_json(run, here):
    found = json.loads(run("convert", "fashion", "--json")[1])
    assert (found["state"], found["subject"]) == ("Succeeded", "fashion:1")
    assert found["model"]["id"] == found["result"] == "fashion.1.accelonnx:1"


REFUSED = {
    "no workspace": (("model", "list", "--workspace", "none"), "Folder none must be a workspace"),
    "a workspace twice": (("workspace", "create", "."), "Folder . must not be a workspace yet; it is one"),
    "a wrong workspace name": (("workspace", "create", "w", "--name", "a b"), "Name of a workspace must be"),
    "a wrong model name": (("model", "register", "a/b", "x"), "Name of a model must be"),
    "a missing path": (("model", "register", "a", "x"), "Model x must be readable"),
    "an unknown model": (("model", "show", "none"), "Model must be a registered one, not none"),
    "a wrong version": (("model", "show", "fashion:one"), "Version of fashion must be a whole number from 1"),
    "an unknown version": (("model", "show", "fashion:2"), "Model fashion must have the version"),
    "an unknown source": (("convert", "none"), "Model must be a registered one, not none"),
    "a wrong format": (("convert", "fashion", "--format", "int8"), "Format must be one of"),
    "a wrong output": (("convert", "fashion", "--outputs", "a,,b"), "Outputs must be names of tensors"),
    "an unknown operation": (("operation", "show", "zz"), "Operation must be a known one, not 'zz'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_two_lines(run, here, case):
    arguments, text = REFUSED[case]
    status, out, err = run(*arguments)
    lines = [line for line in err.splitlines() if not line.startswith("Registering")]
    assert (status, out, len(lines)) == (1, "", 2)
    assert lines[0].startswith(f"error: {text}")
    assert lines[1].startswith("hint: ")
    assert len(here.models.list()) == 1


def test_a_broken_workspace_is_told_in_two_lines(run, here, tmp_path):
    (tmp_path / ".gatecast/workspace.db").write_bytes(b"no database" * 1000)
    status, _, err = run("model", "list")
    assert (status, len(err.splitlines())) == (1, 2)
    assert "must have a sound database, not one with: file is not a database" in err


@pytest.mark.parametrize("option", ["--tag", "--property"])
def test_labels_must_be_key_and_value(run, here, fashion, option):
    status, _, err = run("model", "register", "a", fashion, option, "word")
    assert status == 2
    assert f"Option {option} must be KEY=VALUE, not 'word'." in err


def test_on_a_terminal_a_bar_shows_where_a_conversion_is(here, tmp_path):
    master, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "gatecast", "convert", "fashion"],
        cwd=tmp_path,
        stderr=terminal,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(terminal)
    seen = []

    def read():
        try:
            while data := os.read(master, 4096):
                seen.append(data)
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    out, _ = child.communicate(timeout=120)
    reader.join()
    os.close(master)
    text = b"".join(seen).decode()
    assert (child.returncode, out) == (0, b"fashion.1.accelonnx:1\n")
    assert "Conversion of fashion:1: " in text
    assert "━" in text
    assert text.rstrip().endswith("Converted fashion:1 to fashion.1.accelonnx:1, bfp8")
