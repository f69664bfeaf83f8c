"""Images as the workspace keeps them. Their libraries are a stand-in; `test_image_runs.py` has real ones."""

import contextlib
import gzip
import hashlib
import json
import os
import resource
import signal
import tarfile
import time

import pytest
from tests.workspace.root_files import files, member, write_tar

import gatecast
from gatecast import zoo
from gatecast.artifact import Artifact
from gatecast.errors import ConflictError, FileError, FormatError, NotFoundError, WorkspaceError
from gatecast.workspace import Image, ImageState, State, Workspace, worker
from gatecast.workspace.distributions import PYTHON, libraries, libraries_key
from gatecast.workspace.layer_cache import LayerCache, cache_folder
from gatecast.workspace.layers import bytes_entry
from gatecast.workspace.operations import Operations


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache folder with a small layer in place of that of the libraries, which takes long to pack."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATECAST_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("SOURCE_DATE_EPOCH", raising=False)
        cache = LayerCache(cache_folder())
        cache.add(libraries_key(libraries()), "libraries", [bytes_entry("opt/libraries/x", b"stand-in")])
        yield cache


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """The carried network, compiled for the software device."""
    path = tmp_path_factory.mktemp("artifacts") / "fashion.gcast"
    gatecast.compile(gatecast.quantize(zoo.load("fashion"))).save(path)
    return path


def in_this_process(operations, identity):
    """Do what a worker does, but here: a process of its own takes a second to start."""
    operation = operations.get(identity)
    with operation.log.open("a") as log, contextlib.redirect_stdout(log):
        worker.main([str(operations._store.folder), identity])
    return operations.get(identity)


def made(ws, name, model, **options):
    """Make an image; return it and its operation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Operations, "launch", in_this_process)
        return ws.images.create(name, [model], **options)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, fashion, artifact):
    """A workspace with image fashion:1 of an ONNX model, and compiled:1 of an artifact. Only to be read."""
    ws = Workspace.create(tmp_path_factory.mktemp("shop") / "demo")
    ws.models.register("fashion", fashion)
    ws.models.register("compiled", artifact)
    made(ws, "fashion", "fashion", tags={"use": "demo"}, description="Clothes")
    made(ws, "compiled", "compiled", properties={"a": "b"})
    return ws


def blob(ws, digest):
    return ws.store.blobs.existing(digest).read_bytes()


def manifest_of(ws, image):
    manifest = json.loads(blob(ws, image.digest))
    return manifest, json.loads(blob(ws, manifest["config"]["digest"]))


def test_an_image_exists_at_once_and_then_succeeds(ws, artifact):
    ws.models.register("m", artifact)
    image, operation = ws.images.create("demo", ["m"], tags={"a": "1"})
    assert (image.id, image.state, image.models, image.digest) == ("demo:1", "Creating", ("m:1",), None)
    assert (operation.kind, operation.subject) == ("image", "demo:1")
    assert ws.operations.wait(operation, timeout=120).state is State.SUCCEEDED
    image = ws.images.find("demo")
    assert (image.state, image.tags, image.operation) == (ImageState.SUCCEEDED, {"a": "1"}, operation.id)
    assert image.location == "localhost/demo:1"
    assert image.log == operation.log


def test_the_log_says_what_is_done(shop):
    log = shop.images.find("fashion").log.read_text()
    for text in (
        "[1/5] No base: `gatecast image base` was not run, and none was given; only services of kind local",
        "[2/5] Compiling fashion:1 for software\n",
        "quantising to bfp8, since it is float",
        "[3/5] Libraries as packed before: anyio ",
        "layer model: ",
        "[5/5] Image localhost/fashion:1 has manifest sha256:",
        "Succeeded: fashion:1",
    ):
        assert text in log
    assert "[2/5] compiled:1 is compiled for software" in shop.images.find("compiled").log.read_text()


def test_all_digests_are_those_of_the_bytes(shop):
    image = shop.images.find("fashion")
    manifest, config = manifest_of(shop, image)
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    kinds = [layer["annotations"]["io.gatecast.layer"] for layer in manifest["layers"]]
    assert kinds == ["libraries", "gatecast", "model"]
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        data = blob(shop, layer["digest"])
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer["digest"]
        assert f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}" == diff_id
        assert len(data) == layer["size"]
    sizes = [layer["size"] for layer in (*manifest["layers"], manifest["config"])]
    assert image.size == sum(sizes) + len(blob(shop, image.digest))


def test_the_configuration_says_how_it_runs(shop):
    _, config = manifest_of(shop, shop.images.find("fashion"))
    settings = config["config"]
    assert settings["Entrypoint"] == [
        *("/usr/bin/tini", "--", f"/usr/bin/python{PYTHON}", "-m", "gatecast", "serve", "/model/fashion"),
        *("--model_name", "fashion", "--host", "0.0.0.0", "--port", "8500", "--rest_api_port", "8501"),
    ]
    assert settings["User"] == "65532:65532"
    assert settings["WorkingDir"] == "/"
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["ExposedPorts"] == {"8500/tcp": {}, "8501/tcp": {}}
    assert "PYTHONPATH=/opt/gatecast:/opt/libraries" in settings["Env"]
    assert "PYTHONDONTWRITEBYTECODE=1" in settings["Env"]


def test_labels_say_what_it_is(shop):
    image = shop.images.find("fashion")
    model = shop.models.find("fashion")
    _, config = manifest_of(shop, image)
    labels = config["config"]["Labels"]
    assert labels == image.labels
    signature = json.loads(labels.pop("io.gatecast.signature"))
    assert [tensor["name"] for tensor in signature["inputs"]] == ["images"]
    provenance = json.loads(labels.pop("io.gatecast.provenance"))
    assert (provenance["model"], provenance["model_digest"]) == ("fashion:1", model.digest)
    file = shop.images.artifact(image)
    assert labels == {
        "io.gatecast.artifact.digest": f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}",
        "io.gatecast.base": "none",
        "io.gatecast.format": "bfp8",
        "io.gatecast.model": "fashion:1",
        "io.gatecast.model.digest": model.digest,
        "io.gatecast.port.grpc": "8500",
        "io.gatecast.port.rest": "8501",
        "io.gatecast.python": PYTHON,
        "io.gatecast.target": "software",
        "io.gatecast.version": gatecast.__version__,
        "org.opencontainers.image.base.name": "none",
        "org.opencontainers.image.created": "1970-01-01T00:00:00Z",
        "org.opencontainers.image.title": "fashion",
    }


def test_twice_the_same_model_gives_the_same_digest(ws, fashion, tmp_path, check):
    ws.models.register("m", fashion)
    started = [ws.images.create("demo", ["m"], tags={"n": number}) for number in "12"]  # two at once
    for _, operation in started:
        assert ws.operations.wait(operation, timeout=120).state is State.SUCCEEDED
    first, second = (ws.images.get("demo", number) for number in (1, 2))
    assert first.digest == second.digest
    check(ws)
    for number in "12":
        ws.images.export(ws.images.find(f"demo:{number}"), tmp_path / number)
    one, two = ((tmp_path / number).read_bytes() for number in "12")
    assert one != two, "names differ"
    assert one.replace(b"demo:1", b"demo:2").replace(b'ref.name":"1"', b'ref.name":"2"') == two
    ws.images.export(first, tmp_path / "2")
    assert (tmp_path / "2").read_bytes() == one


def test_images_share_layers(shop):
    layers = [
        {layer["annotations"]["io.gatecast.layer"]: layer["digest"] for layer in manifest["layers"]}
        for manifest, _ in (manifest_of(shop, shop.images.find(name)) for name in ("fashion", "compiled"))
    ]
    assert layers[0]["libraries"] == layers[1]["libraries"]
    assert layers[0]["gatecast"] == layers[1]["gatecast"]
    assert layers[0]["model"] != layers[1]["model"]


def test_the_artifact_comes_out_as_it_went_in(shop, artifact):
    file = shop.images.artifact(shop.images.find("compiled"))
    assert file.read_bytes() == artifact.read_bytes()
    assert file.name == "compiled.gcast"
    assert file.stat().st_mode & 0o777 == 0o444
    made_at = file.stat().st_mtime_ns
    assert shop.images.artifact(shop.images.find("compiled")) == file
    assert file.stat().st_mtime_ns == made_at
    file.chmod(0o644)
    file.write_bytes(b"changed")
    assert shop.images.artifact(shop.images.find("compiled")).read_bytes() == artifact.read_bytes()
    assert Artifact.load(shop.images.artifact(shop.images.find("fashion"))).target == "software"


def test_images_are_listed_and_found(shop):
    assert [image.id for image in shop.images.list()] == ["compiled:1", "fashion:1"]
    assert [image.id for image in shop.images.list("fashion")] == ["fashion:1"]
    assert [image.id for image in shop.images.list(model="fashion")] == ["fashion:1"]
    assert [image.id for image in shop.images.list(model="fashion:1")] == ["fashion:1"]
    assert shop.images.list(model="fashion:2") == []
    assert [image.id for image in shop.images.list(tags=[("use", "demo")])] == ["fashion:1"]
    assert [image.id for image in shop.images.list(properties=[("a", None)])] == ["compiled:1"]
    assert shop.images.list(tags=[("use", "other")]) == []
    assert shop.images.find("fashion:1") == shop.images.get("fashion") == shop.images.get("fashion", 1)


def test_tags_change_and_the_digest_stays(shop):
    image = shop.images.find("fashion")
    changed = shop.images.update(image, add_tags={"new": "1"}, description="x", add_properties={"p": "1"})
    assert changed.tags == {"use": "demo", "new": "1"}
    assert (changed.description, changed.properties, changed.digest) == ("x", {"p": "1"}, image.digest)
    assert shop.images.update(image, remove_tags=["new"], description="Clothes").tags == {"use": "demo"}
    with pytest.raises(WorkspaceError, match="Property p of fashion:1 must stay '1', not become '2'"):
        shop.images.update(image, add_properties={"p": "2"})


NAMES = ["", "ab", "Upper", "with space", "a" * 33, "-ab", "abc-", "a..b", "a.-b", "a/b", "a:b", "a_b", 777]


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_name_is_refused(name, shop):
    with pytest.raises(WorkspaceError, match="Name of an image must be 3 to 32 lower-case letters and digi"):
        shop.images.create(name, ["fashion"])
    assert len(shop.images.list()) == 2


def test_wrong_versions_and_unknown_images_are_refused(shop):
    for text in ("fashion:0x1", "fashion:", "fashion:-1", "fashion:" + "9" * 30):
        with pytest.raises(WorkspaceError, match="Version of an image fashion must be a whole number from 1"):
            shop.images.find(text)
    with pytest.raises(NotFoundError) as error:
        shop.images.find("fashion:7")
    assert str(error.value) == "Image fashion must have the version that is asked for, not 7"
    assert error.value.hint == "It has: 1."
    with pytest.raises(NotFoundError) as error:
        shop.images.find("another")
    assert error.value.hint == "There are: compiled, fashion."


def test_anything_but_one_model_is_refused(shop):
    for models, number in (([], 0), (["fashion", "compiled"], 2)):
        with pytest.raises(WorkspaceError) as error:
            shop.images.create("demo", models)
        assert str(error.value) == f"Image must hold one model, not {number}"
        assert error.value.hint == "Make an image for each model."
    with pytest.raises(NotFoundError, match="Model must be a registered one, not nothing"):
        shop.images.create("demo", ["nothing"])


def test_wrong_tags_and_a_missing_base_are_refused(shop, tmp_path):
    with pytest.raises(WorkspaceError, match="Keys of tags must be"):
        shop.images.create("demo", ["fashion"], tags={"": "x"})
    with pytest.raises(WorkspaceError, match="Description must be text"):
        shop.images.create("demo", ["fashion"], description="x" * 10_000)
    for base in (tmp_path / "none.tar", tmp_path):
        with pytest.raises(FileError, match="Base .* must be a file: a tar of a root file system"):
            shop.images.create("demo", ["fashion"], base=base)
    assert len(shop.images.list()) == 2


def test_a_name_that_is_too_long_for_a_file_is_refused(ws, artifact):
    ws.models.register("m" * 255, artifact)
    with pytest.raises(WorkspaceError, match="must have at most 240 letters, not 255"):
        ws.images.create("demo", ["m" * 255])


def failed(ws, model, check, **options):
    """Make an image that fails; return the error and its hint."""
    image, operation = made(ws, "demo", model, **options)
    assert (image.state, image.digest, operation.state) == ("Failed", None, "Failed")
    check(ws)
    for use in (ws.images.artifact, lambda image: ws.images.export(image, "never.tar")):
        with pytest.raises(WorkspaceError, match="Image demo:1 must have succeeded, but is Failed"):
            use(image)
    return operation.error.split("\n")


def test_an_artifact_for_another_target_is_refused(ws, artifact, check):
    ws.models.register("m", artifact)
    assert failed(ws, "m", check, target="tiny") == [
        "Artifact m:1 must be compiled for tiny, not software",
        "Make the image with `--target software`, or of the network it came from.",
    ]


def test_a_corrupt_artifact_is_refused(ws, artifact, tmp_path, check):
    (tmp_path / "bad.gcast").write_bytes(artifact.read_bytes()[:-1] + b"\xff")
    ws.models.register("m", tmp_path / "bad.gcast")
    assert "of m:1 is damaged" in failed(ws, "m", check)[0]


def test_what_is_no_network_is_refused(ws, tmp_path, check):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "saved_model.pb").write_bytes(b"x")
    ws.models.register("m", tmp_path / "folder")
    assert failed(ws, "m", check) == [
        "Model m:1 must hold one .onnx or .gcast file, not 0",
        "A TensorFlow model is converted first: `gatecast convert m:1`.",
    ]


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        ({"target": "nothing"}, NotFoundError, "Architecture 'nothing' is not known"),
        ({"format": "int8"}, FormatError, "Format must be one of bfp4, bfp5, bfp6, bfp7, bfp8, not 'int8'"),
    ],
)
def test_an_unknown_target_or_format_is_refused_before_anything_is_made(
    ws, fashion, check, wrong, kind, text
):
    ws.models.register("m", fashion)
    with pytest.raises(kind) as error:
        ws.images.create("made", ["m"], **wrong)
    assert str(error.value) == text
    assert ws.operations.list("image") == []
    with pytest.raises(NotFoundError):
        ws.images.get("made")
    check(ws)


BASES = {
    "hostile": ([member("../../etc/cron.d/x")], None, "must stay inside the image"),
    "of another Python": ([], files("3.2"), f"must have Python {PYTHON}, as Gatecast runs here, not 3.2"),
    "too old": ([], {**files(), "lib/x86_64-linux-gnu/libc.so.6": b""}, "must have libraries as new as"),
}


@pytest.mark.parametrize(("members", "contents", "what"), BASES.values(), ids=BASES)
def test_a_bad_base_is_refused(members, contents, what, ws, artifact, tmp_path, check):
    base = write_tar(tmp_path / "base.tar", members, contents=contents)
    ws.models.register("m", artifact)
    assert what in failed(ws, "m", check, base=base)[0]


def test_a_base_is_the_lowest_layer(ws, artifact, tmp_path):
    contents = {name: data for name, data in files().items() if name != "usr/bin/tini"}
    base = write_tar(tmp_path / "base.tar.gz", [member("var/x", data=b"1")], mode="w:gz", contents=contents)
    ws.models.register("m", artifact)
    image, operation = made(ws, "demo", "m", base=base)
    manifest, config = manifest_of(ws, image)
    assert manifest["layers"][0]["annotations"] == {"io.gatecast.layer": "base"}
    assert image.labels["io.gatecast.base"] == config["rootfs"]["diff_ids"][0]
    assert image.labels["org.opencontainers.image.base.name"] == "base.tar.gz"
    assert config["config"]["Entrypoint"][:3] == [f"/usr/bin/python{PYTHON}", "-m", "gatecast"], "no tini"
    with tarfile.open(ws.store.blobs.existing(manifest["layers"][0]["digest"])) as tar:
        names = tar.getnames()
    assert {"var/x", "tmp", "proc", "dev", "run", "sys"} <= set(names)
    assert "[1/5] Base base.tar.gz" in ws.operations.read_log(operation)


def test_a_model_in_an_image_cannot_be_deleted_before_it(ws, artifact, check):
    model = ws.models.register("m", artifact)
    image, _ = made(ws, "demo", "m")
    file = ws.images.artifact(image)
    with pytest.raises(ConflictError, match="demo:1"):
        ws.models.delete(model)
    ws.images.delete(image)
    assert not file.exists()
    ws.models.delete(model)
    check(ws)
    assert list((ws.store.root / "blobs/sha256").iterdir()) == []
    with pytest.raises(NotFoundError):
        ws.images.delete(image)
    ws.models.register("m", artifact)
    assert made(ws, "demo", "m")[0].version == 2, "a version is never given twice"


def test_an_image_that_a_service_runs_cannot_be_deleted(ws, artifact):
    ws.models.register("m", artifact)
    image, _ = made(ws, "demo", "m")
    ws.computes.create("here")
    with ws.store.transaction() as database:
        columns = [row["name"] for row in database.execute("PRAGMA table_info(services)")]
        row = dict.fromkeys(columns, "") | {"replicas": 1, "memory": 1, "generation": 1, "threads": None}
        row |= {"name": "web", "compute": "here", "image_name": "demo", "image_version": 1}
        marks = ", ".join(f":{column}" for column in columns)
        database.execute(f"INSERT INTO services VALUES ({marks})", row)
    with pytest.raises(ConflictError) as error:
        ws.images.delete(image)
    assert str(error.value) == "Image demo:1 must not be in use to be deleted; service web runs it"
    assert ws.images.artifact(image).exists()


def worker_of(ws, image, text):
    """Wait until a build has logged a text; return the number of its process."""
    deadline = time.monotonic() + 60
    while text not in (log := image.log.read_text()):
        assert time.monotonic() < deadline, log
        time.sleep(0.002)
    with ws.store.reading() as database:
        row = database.execute("SELECT process FROM operations WHERE id = ?", (image.operation,)).fetchone()
    return int(row[0].partition("-")[0])


@pytest.mark.parametrize("moment", ["[2/5]", "layer libraries", "layer gatecast"])
def test_a_build_that_is_killed_leaves_nothing(moment, ws, artifact, check):
    ws.models.register("m", artifact)
    image, operation = ws.images.create("demo", ["m"])
    os.kill(worker_of(ws, image, moment), signal.SIGKILL)
    operation = ws.operations.wait(operation, timeout=60)
    assert operation.error.startswith("Operation ended without a result: its process was killed")
    assert ws.images.find("demo:1").state == "Failed"
    check(Workspace.open(ws.folder))


def test_deleting_an_image_that_is_being_made_ends_that(ws, artifact, check):
    ws.models.register("m", artifact)
    image, operation = ws.images.create("demo", ["m"])
    worker_of(ws, image, "[1/5]")
    ws.images.delete(ws.images.find("demo:1"))
    assert ws.operations.get(operation.id).state is State.CANCELLED
    assert ws.images.list() == []
    check(Workspace.open(ws.folder))


def test_a_full_disk_is_said_and_leaves_nothing(ws, artifact, check):
    ws.models.register("m", artifact)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        image, operation = ws.images.create("demo", ["m"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    operation = ws.operations.wait(operation, timeout=60)
    assert "cannot be written: File too large" in operation.error
    assert ws.images.find("demo").state == "Failed"
    check(ws)


def test_an_export_is_written_whole_or_not_at_all(shop, tmp_path):
    image = shop.images.find("compiled")
    with pytest.raises(FileError, match="Image .* cannot be written: No such file or directory"):
        shop.images.export(image, tmp_path / "none" / "x.tar")
    target = tmp_path / "x.tar"
    target.write_bytes(b"old")
    shop.images.export(image, target)
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
    with tarfile.open(target) as tar:
        assert json.load(tar.extractfile("manifest.json"))[0]["RepoTags"] == ["localhost/compiled:1"]


def damaged(ws, image, kind, data):
    """Put other bytes in the place of a blob of an image."""
    with ws.store.reading() as database:
        (digest,) = database.execute(
            "SELECT digest FROM image_blobs WHERE name = ? AND kind = ?", (image.name, kind)
        ).fetchone()
    path = ws.store.blobs.existing(digest)
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_blob_that_was_changed_is_never_used(ws, artifact, tmp_path):
    ws.models.register("m", artifact)
    image, _ = made(ws, "demo", "m")
    damaged(ws, image, "model", b"other")
    for use in (ws.images.artifact, lambda image: ws.images.export(image, tmp_path / "x.tar")):
        with pytest.raises(FileError, match="must have the digest that is its name, but was changed"):
            use(image)
    assert not (tmp_path / "x.tar").exists()


def test_records_are_values():
    assert Image.__dataclass_params__.frozen
