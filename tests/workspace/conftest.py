import pytest

from gatecast import zoo
from gatecast.interchange import export
from gatecast.workspace import Workspace


@pytest.fixture
def ws(tmp_path):
    """An empty workspace called demo."""
    return Workspace.create(tmp_path / "demo")


@pytest.fixture(scope="session")
def fashion(tmp_path_factory):
    """The carried network as an ONNX file."""
    path = tmp_path_factory.mktemp("networks") / "fashion.onnx"
    export(zoo.load("fashion"), path)
    return path


@pytest.fixture
def check():
    """Assert that a workspace is sound: nothing unfinished, every blob used, every row's blob there."""

    def check(workspace):
        root = workspace.store.root
        assert list((root / "tmp").iterdir()) == []
        with workspace.store.reading() as database:
            assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
            rows = database.execute("SELECT digest FROM model_files UNION SELECT digest FROM image_blobs")
            used = {row[0].removeprefix("sha256:") for row in rows}
        assert {path.name for path in (root / "blobs/sha256").iterdir()} == used

    return check
