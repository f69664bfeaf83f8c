"""Images that need no worker to be made, and processes that are none, for the control plane of services."""

import json
import shutil
from dataclasses import dataclass, field

import pytest

from gatecast import __version__
from gatecast.workspace import Workspace, supervision
from gatecast.workspace.launching import Ports
from gatecast.workspace.process import Process

MIB = 1 << 20


@dataclass
class FakeLauncher:
    """Starts nothing, and keeps what it was asked to start; tests say how each process goes on."""

    refuse: bool = False
    count: int = 0
    started: dict = field(default_factory=dict)  # arguments, by name
    processes: dict = field(default_factory=dict)  # by name
    answering: dict = field(default_factory=dict)  # ports, by name
    ended: dict = field(default_factory=dict)  # words, by process

    def start(self, name, arguments, log):
        if self.refuse:
            raise OSError(11, "Resource temporarily unavailable")
        self.started[name] = list(arguments)
        self.count += 1
        self.processes[name] = Process(10**7 + self.count, 1)  # beyond any real number
        log.write_text(f"log of {name}\n")
        return self.processes[name]

    def ports(self, name, process):
        return self.answering.get(name) if self.processes.get(name) == process else None

    def end(self, process):
        return self.ended.get(process)

    def forget(self, name, process):
        self.answering.pop(name, None)

    def found(self):
        return {name: process for name, process in self.processes.items() if process not in self.ended}

    def answer(self, *names):
        for name in names or list(self.processes):
            self.answering[name] = Ports(1000 + len(self.answering), 2000 + len(self.answering))

    def finish(self, name, how="ended with status 1"):
        self.ended[self.processes[name]] = how


@pytest.fixture
def launcher():
    return FakeLauncher()


@pytest.fixture
def unsupervised(monkeypatch):
    """No supervisor is started."""
    monkeypatch.setattr(supervision, "ensure", lambda store, before: None)


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A folder with a workspace `demo`, and files `net.onnx` and `net.gcast` beside it."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "net.onnx").write_bytes(b"x")
    (folder / "net.gcast").write_bytes(bytes(1000))
    workspace = Workspace.create(folder / "demo")
    workspace.computes.create("here", nodes=4)
    workspace.models.register("net", folder / "net.onnx")
    for _ in range(2):
        add_image(workspace, "small")
    return folder


@pytest.fixture
def ws(tmp_path, unsupervised, template):
    """A workspace with a compute `here` of four nodes and images small:1, small:2 of a model `net`."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    workspace = Workspace.open(tmp_path / "demo")
    workspace.images.artifact = lambda image: tmp_path / "net.gcast"
    return workspace


def add_image(workspace, name, *, state="Succeeded", version=__version__, model="net:1"):
    """Write an image into the database as if it had been made."""
    with workspace.store.transaction() as database:
        number = database.execute("SELECT count(*) + 1 FROM images WHERE name = ?", (name,)).fetchone()[0]
        operation = f"{name}{number}"
        database.execute(
            "INSERT INTO operations VALUES (?, 'image', ?, '{}', 'Succeeded', '2026-01-01T00:00:00+00:00',"
            " '2026-01-01T00:00:00+00:00', '', ?, '')",
            (operation, f"{name}:{number}", f"{name}:{number}"),
        )
        labels = json.dumps({"io.gatecast.version": version})
        database.execute(
            "INSERT INTO images (name, version, state, target, digest, size, tags, properties, labels,"
            " description, created_time, operation) VALUES (?, ?, ?, 'software', NULL, 0, '{}', '{}', ?, '',"
            " '2026-01-01T00:00:00+00:00', ?)",
            (name, number, state, labels, operation),
        )
        model_name, _, model_version = model.partition(":")
        database.execute(
            "INSERT INTO image_models VALUES (?, ?, 0, ?, ?)", (name, number, model_name, int(model_version))
        )
    return workspace.images.get(name, number)


@pytest.fixture(name="add_image")
def _add_image():
    return add_image


@pytest.fixture
def memory(monkeypatch):
    """Have the machine a number of MiB of memory."""

    def set_to(mib):
        for module in ("services", "service_keeper"):
            monkeypatch.setattr(f"gatecast.workspace.{module}.machine_memory", lambda: mib * MIB)

    set_to(100_000)
    return set_to
