import hashlib
import io
import json
import tarfile

import pytest

from gatecast.errors import FileError
from gatecast.workspace.layers import Layer, tar_parts
from gatecast.workspace.oci import (
    CONFIG,
    MANIFEST,
    Descriptor,
    architecture,
    archive_entries,
    config_json,
    manifest_json,
    read_manifest,
    timestamp,
)

LAYERS = [
    Layer("base", "sha256:" + "b" * 64, "sha256:" + "0" * 64, 10),
    Layer("model", "sha256:" + "c" * 64, "sha256:" + "1" * 64, 20),
]


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image(blobs):
    """Put an image of two layers into `blobs`; return the descriptor of its manifest."""
    layers = []
    for kind, data in (("libraries", b"one"), ("model", b"three")):
        blobs[digest(data)] = data
        layers.append(Layer(kind, digest(data), digest(data[::-1]), len(data)))
    config = config_json(layers, {"User": "65532:65532"})
    blobs[digest(config)] = config
    manifest = manifest_json(Descriptor(CONFIG, digest(config), len(config)), layers)
    blobs[digest(manifest)] = manifest
    return Descriptor(MANIFEST, digest(manifest), len(manifest))


def test_the_configuration_lists_the_layers_uncompressed_lowest_first(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    config = json.loads(config_json(LAYERS, {"User": "65532:65532"}))
    assert config == {
        "architecture": architecture(),
        "config": {"User": "65532:65532"},
        "created": "2023-11-14T22:13:20Z",
        "history": [
            {"created": "2023-11-14T22:13:20Z", "created_by": "gatecast: base"},
            {"created": "2023-11-14T22:13:20Z", "created_by": "gatecast: model"},
        ],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64, "sha256:" + "1" * 64]},
    }


def test_the_manifest_is_as_the_specification_writes_it():
    manifest = json.loads(manifest_json(Descriptor(CONFIG, "sha256:" + "a" * 64, 7), LAYERS))
    assert manifest == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": "sha256:" + "a" * 64,
            "size": 7,
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": layer.digest,
                "size": layer.size,
                "annotations": {"io.gatecast.layer": layer.kind},
            }
            for layer in LAYERS
        ],
    }


def test_a_manifest_that_was_written_is_read_again():
    config = Descriptor(CONFIG, "sha256:" + "a" * 64, 7)
    manifest = read_manifest(manifest_json(config, LAYERS), "x")
    assert manifest.config == config
    assert [layer.digest for layer in manifest.layers] == [layer.digest for layer in LAYERS]
    assert manifest.layer("model").size == 20
    assert manifest.layer("libraries") is None


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\xff", b"[]", b"{}", b"null", b'{"config": 1, "layers": []}', b"[" * 100_000),
        manifest_json(Descriptor("text/plain", "sha256:0", 1), LAYERS),
        manifest_json(Descriptor(CONFIG, "sha256:0", "1"), LAYERS),
    ],
)
def test_another_form_of_manifest_is_refused(data):
    with pytest.raises(FileError, match="Manifest of demo:1 must be an OCI image manifest"):
        read_manifest(data, "demo:1")


def test_an_archive_is_an_oci_layout():
    blobs = {}
    manifest = image(blobs)
    entries = archive_entries(manifest, "localhost/demo:3", lambda name: io.BytesIO(blobs[name]))
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_parts(entries)))) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])
    assert (index["schemaVersion"], index["mediaType"]) == (2, "application/vnd.oci.image.index.v1+json")
    assert index["manifests"] == [
        {
            "mediaType": MANIFEST,
            "digest": manifest.digest,
            "size": manifest.size,
            "platform": {"architecture": architecture(), "os": "linux"},
            "annotations": {
                "io.containerd.image.name": "localhost/demo:3",
                "org.opencontainers.image.ref.name": "3",
            },
        }
    ]
    kept = {name.replace("blobs/sha256/", "sha256:"): data for name, data in files.items() if "/" in name}
    assert kept == blobs
    assert all(digest(data) == name for name, data in kept.items())


def test_the_same_archive_is_what_docker_load_takes():
    blobs = {}
    entries = archive_entries(image(blobs), "localhost/demo:3", lambda name: io.BytesIO(blobs[name]))
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_parts(entries)))) as tar:
        (docker,) = json.load(tar.extractfile("manifest.json"))
        config = json.load(tar.extractfile(docker["Config"]))
        found = [tar.extractfile(name).read() for name in docker["Layers"]]
    assert docker["RepoTags"] == ["localhost/demo:3"]
    assert found == [b"one", b"three"]
    assert len(config["rootfs"]["diff_ids"]) == 2


def test_a_layer_that_comes_twice_is_one_blob():
    blobs = {digest(b"same"): b"same"}
    layers = [Layer(kind, digest(b"same"), digest(b"x"), 4) for kind in ("libraries", "model")]
    config = config_json(layers, {})
    manifest = manifest_json(Descriptor(CONFIG, digest(config), len(config)), layers)
    blobs |= {digest(config): config, digest(manifest): manifest}
    top = Descriptor(MANIFEST, digest(manifest), len(manifest))
    names = [e.path for e in archive_entries(top, "localhost/x:1", lambda name: io.BytesIO(blobs[name]))]
    assert len(names) == len(set(names)) == 6


def test_timestamps_are_utc():
    assert timestamp(0) == "1970-01-01T00:00:00Z"
