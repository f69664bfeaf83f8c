"""An image as a container runs it: its layers, unpacked, are the whole root file system of its own command.

No container engine is needed: the test's own mount, process and user namespaces do what one would do. The
root is mounted read-only, /tmp is empty, the user is 65532, nothing of this machine's Python is in reach.
"""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
import urllib.request

import pytest

from gatecast import zoo
from gatecast.client import PredictionClient
from gatecast.workspace import State, Workspace, build_base
from gatecast.workspace.base_image import SUITES
from gatecast.workspace.distributions import PYTHON

pytestmark = pytest.mark.slow

ARCHIVE = "http://deb.debian.org/debian/dists/{}/Release"

SCRIPT = """
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -o remount,ro,bind "$1"
mount -t tmpfs tmpfs "$1/tmp"
exec chroot $USER_OF_IMAGE "$@"
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory, fashion):
    """A real image in a tar: base from Debian, real libraries."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed")
    if PYTHON not in SUITES:
        pytest.skip(f"no release of Debian has Python {PYTHON}")
    try:
        urllib.request.urlopen(ARCHIVE.format(SUITES[PYTHON]), timeout=20).close()
    except OSError as error:
        pytest.skip(f"needs the network, to fetch packages of Debian: {error}")
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATECAST_CACHE", str(folder / "cache"))
        patch.delenv("SOURCE_DATE_EPOCH", raising=False)
        build_base()
        ws = Workspace.create(folder / "demo")
        ws.models.register("fashion", fashion)
        image, operation = ws.images.create("fashion", ["fashion"])
        operation = ws.operations.wait(operation, timeout=300)
        assert operation.state is State.SUCCEEDED, ws.operations.read_log(operation)
        ws.images.export(ws.images.find("fashion"), folder / "image.tar")
    return folder / "image.tar"


@pytest.fixture(scope="module")
def root(image, tmp_path_factory):
    """The unpacked root file system, and the configuration of the image."""
    folder = tmp_path_factory.mktemp("root")
    folder.chmod(0o755)
    with tarfile.open(image) as tar:
        (docker,) = json.load(tar.extractfile("manifest.json"))
        config = json.load(tar.extractfile(docker["Config"]))["config"]
        for layer in docker["Layers"]:
            with tarfile.open(fileobj=tar.extractfile(layer), mode="r|gz") as files:
                files.extractall(folder, filter="tar")
    return folder, config


@pytest.fixture(scope="module")
def namespaces():
    """The command that gives a process its own mounts and process numbers, with or without root."""
    command = ["/usr/bin/unshare", "--mount", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        command.append("--map-root-user")
    tried = subprocess.run(
        [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True
    )
    if tried.returncode:
        pytest.skip(f"needs namespaces, which this machine does not allow: {tried.stderr.strip()}")
    return command


@pytest.fixture
def running(namespaces, root):
    """The image's own command, with other ports, in namespaces of its own; gives its process."""
    folder, config = root
    user = "--userspec=65532:65532" if os.geteuid() == 0 else ""
    command = [*namespaces, "/bin/sh", "-c", SCRIPT.replace("$USER_OF_IMAGE", user)]
    environment = dict(text.split("=", 1) for text in config["Env"])
    environment["PATH"] += ":/usr/sbin:/sbin"
    process = subprocess.Popen(
        [*command, "sh", str(folder), *config["Entrypoint"], "--port", "0", "--rest_api_port", "0"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_an_image_serves_on_a_read_only_root_as_no_ones_user(running, tmp_path):
    line = running.stderr.readline()
    assert " gRPC at 0.0.0.0:" in line, line + running.stderr.read()
    port = int(line.split("0.0.0.0:")[1].split(",")[0])
    sample = zoo.samples("fashion")[0]
    (tmp_path / "picture.png").write_bytes(sample.data)
    with PredictionClient("127.0.0.1", port) as client:
        scores = client.score_file(tmp_path / "picture.png")
        assert client.labels("fashion")[scores.argmax()] == sample.name
    (init,) = children(running.pid)
    owner = f"/proc/{init}/status"
    with open(owner) as status:
        uids = next(text for text in status if text.startswith("Uid:")).split()
    assert uids[1] == ("65532" if os.geteuid() == 0 else str(os.geteuid()))
    os.kill(init, signal.SIGTERM)
    assert running.wait(timeout=20) == 0
    assert running.stderr.read() == "Stopped\n"


def test_there_is_no_shell_and_no_compiler_in_an_image(root):
    folder, _ = root
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert sorted(name for name in names if name.startswith(("bin/", "sbin/", "usr/bin/", "usr/sbin/"))) == [
        "usr/bin/python3",
        f"usr/bin/python{PYTHON}",
        "usr/bin/tini",
    ]
    assert "opt/gatecast/gatecast/compiler" not in names
    assert "opt/libraries/onnx" not in names
    assert "model/fashion/1/fashion.gcast" in names
    assert (folder / "usr/share/doc/tini/copyright").is_file()


def children(pid, patience_s=10):
    """Processes that a process has started, waited for."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            found = [int(number) for number in file.read().split()]
        if found:
            return found
    raise AssertionError(f"{pid} has no children")
