"""Run one change of a workspace again and again, killed with SIGKILL at its first, second, … line of code.

``python kill_at_each_step.py FOLDER CHANGE`` prints how many times it was killed. After each time the
workspace is opened, which must clean up, and checked: it is as before the change or as after it, nothing in
between, nothing left over. A process of its own, so that it may fork with no threads about.
"""

import os
import signal
import sys
from pathlib import Path

import gatecast.workspace
from gatecast.interchange import load
from gatecast.workspace import State, Workspace, converting, operations
from gatecast.workspace.store import FOLDER

PACKAGE = str(Path(gatecast.workspace.__file__).parent)
STRIDE = int(os.environ.get("STRIDE", "1"))


def files(folder):
    root = folder.parent / "net"
    (root / "sub").mkdir(parents=True, exist_ok=True)
    (root / "a").write_bytes(b"a" * 5000)
    (root / "sub/b").write_bytes(os.urandom(100))
    return root


def register(folder):
    Workspace.open(folder).models.register("net", folder.parent / "net", tags={"k": "v"})


def delete(folder):
    workspace = Workspace.open(folder)
    workspace.models.delete(workspace.models.get("net"))


def update(folder):
    workspace = Workspace.open(folder)
    workspace.models.update(workspace.models.get("net"), add_tags={"k": str(os.getpid())})


def create(folder):
    Workspace.create(folder.parent / "new")


def convert(folder):
    """The last steps of a conversion: its network is read and quantised already."""
    workspace = Workspace.open(folder)
    identity = workspace.models.get("net").id
    with workspace.store.transaction() as database:
        operation = operations.insert(database, "convert", identity, {})
    operation = workspace.operations.claim(operation)
    request = {"format": "bfp8"}
    draft = converting._draft(workspace.models.find(identity), GRAPH, request)
    converting._register(workspace, operation, draft, GRAPH)


def killed_at(step, change, folder):
    """Run `change` in a child that is killed at its line `step`; return whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def trace(frame, event, argument):
            if not frame.f_code.co_filename.startswith(PACKAGE):
                return None
            left[0] -= event == "line"
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            change(folder)
        except BaseException as error:
            os.write(1, f"step {step}: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        return False
    return True


def check(folder):
    """Open the workspace and return what is in it, after making sure that it is sound."""
    workspace = Workspace.open(folder)
    root = folder / FOLDER
    assert os.listdir(root / "tmp") == [], os.listdir(root / "tmp")
    assert [path.name for path in folder.iterdir() if path.name.startswith(FOLDER)] == [FOLDER]
    with workspace.store.reading() as database:
        assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    models = workspace.models.list()
    used = {file.digest.removeprefix("sha256:") for model in models for file in model.files}
    assert set(os.listdir(root / "blobs/sha256")) == used
    for operation in workspace.operations.list():
        assert operation.state.ended
        assert (operation.state is State.SUCCEEDED) == (operation.result in {model.id for model in models})
    return [model.id for model in models]


def allowed(change, before, after):
    if change is register:
        return after == before or (len(after) == len(before) + 1 and after[1:] == before)
    if change is delete:
        return after in (before, before[1:])
    if change is convert:
        return after == before or [name for name in after if "accelonnx" not in name] == before
    return after == before


def check_after(change, folder, before, step):
    """Check what the change has left, and make room for the next one."""
    if change is create:
        new = folder.parent / "new"
        if (new / FOLDER).exists():
            assert check(new) == []
            new.rename(folder.parent / f"made{step}")
        return
    after = check(folder)
    assert allowed(change, before, after), (step, before, after)
    if change is convert:
        workspace = Workspace.open(folder)
        for model in [model for model in workspace.models.list() if model.parent]:
            workspace.models.delete(model)
        with workspace.store.transaction() as database:
            database.execute("DELETE FROM operations")


def main():
    folder, change = Path(sys.argv[1]), globals()[sys.argv[2]]
    files(folder)
    register(folder)
    step, killed, alive = 1, 0, False
    while not alive:
        if change is delete:
            register(folder)
        if change is register:
            files(folder)  # new content, so that there is a blob to be written
        before = check(folder)
        alive = not killed_at(step, change, folder)
        check_after(change, folder, before, step)
        killed += not alive
        step += STRIDE
    sys.stdout.write(f"{killed}\n")


if __name__ == "__main__":
    GRAPH = load(os.environ["NETWORK"]) if sys.argv[2] == "convert" else None
    main()
