"""Images as the Open Container Initiative defines them: configuration, manifest, layout, and one tar of all.

Everything is plain JSON and content-addressed blobs; no container tool is needed to write or read it.
Ref: OCI Image Format Specification 1.1; docs/spec/image.md §1.
"""

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from gatecast.errors import FileError

from .layers import Entry, Layer, bytes_entry, epoch

CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

LAYER_KIND = "io.gatecast.layer"
"""Annotation of a layer's descriptor: what the layer holds."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le"}
MAX_JSON = 1 << 22


@dataclass(frozen=True)
class Descriptor:
    """What points at a blob."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the specification writes it."""
        data: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**data, "annotations": dict(self.annotations)} if self.annotations else data


@dataclass(frozen=True)
class Manifest:
    """An image's manifest as it was read."""

    config: Descriptor
    layers: tuple[Descriptor, ...]

    def layer(self, kind: str) -> Descriptor | None:
        """The layer that holds `kind`, None where the image has none."""
        return next((layer for layer in self.layers if layer.annotations.get(LAYER_KIND) == kind), None)


def architecture() -> str:
    """Return this machine's by its OCI name, such as ``amd64`` or ``arm64``."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def timestamp(seconds: int) -> str:
    """Seconds since 1970 as RFC 3339 writes them."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def config_json(layers: Sequence[Layer], settings: Mapping[str, Any]) -> bytes:
    """Return the configuration of an image for this machine's architecture.

    Parameters
    ----------
    layers : sequence of Layer
        Lowest first.
    settings : mapping
        How it runs: `Entrypoint`, `User`, `Labels`, …
    """
    created = timestamp(epoch())
    return _canonical(
        {
            "architecture": architecture(),
            "config": dict(settings),
            "created": created,
            "history": [{"created": created, "created_by": f"gatecast: {layer.kind}"} for layer in layers],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    )


def manifest_json(config: Descriptor, layers: Sequence[Layer]) -> bytes:
    """Return the manifest of an image."""
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.to_json(),
            "layers": [
                Descriptor(LAYER, layer.digest, layer.size, {LAYER_KIND: layer.kind}).to_json()
                for layer in layers
            ],
        }
    )


def read_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest; FileError if it has another form."""
    try:
        parsed = json.loads(data)
        return Manifest(
            _descriptor(parsed["config"], CONFIG),
            tuple(_descriptor(layer, LAYER) for layer in parsed["layers"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FileError(f"Manifest of {where} must be an OCI image manifest: {error!r}") from error


def _descriptor(data: Mapping[str, Any], media_type: str) -> Descriptor:
    annotations = data.get("annotations", {})
    if data["mediaType"] != media_type or type(data["size"]) is not int or not isinstance(annotations, dict):
        raise ValueError(f"{data['mediaType']} of {data['size']!r} bytes")
    return Descriptor(media_type, str(data["digest"]), data["size"], annotations)


def archive_entries(
    manifest: Descriptor, reference: str, open_blob: Callable[[str], BinaryIO]
) -> Iterator[Entry]:
    """Entries of one tar that is an OCI layout and what `docker save` writes, both.

    Parameters
    ----------
    manifest : Descriptor
        Of the image.
    reference : str
        Name and tag that the image bears where it is loaded: ``localhost/resnet50:1``.
    open_blob : callable
        Opens the blob of a digest.
    """
    with open_blob(manifest.digest) as file:
        data = file.read(MAX_JSON)
    parts = read_manifest(data, reference)
    with open_blob(parts.config.digest) as file:
        config = json.loads(file.read(MAX_JSON))
    entry = {
        **manifest.to_json(),
        "platform": {"architecture": config["architecture"], "os": config["os"]},
        "annotations": {
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
        },
    }
    docker = {
        "Config": _blob(parts.config.digest),
        "RepoTags": [reference],
        "Layers": [_blob(layer.digest) for layer in parts.layers],
    }
    yield bytes_entry("oci-layout", _canonical({"imageLayoutVersion": "1.0.0"}))
    yield bytes_entry(
        "index.json", _canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
    )
    yield bytes_entry("manifest.json", _canonical([docker]))
    yield bytes_entry(_blob(manifest.digest), data)
    for part in {part.digest: part for part in (parts.config, *parts.layers)}.values():
        yield _blob_entry(part, open_blob)


def _blob_entry(part: Descriptor, open_blob: Callable[[str], BinaryIO]) -> Entry:
    return Entry(_blob(part.digest), size=part.size, open=lambda: open_blob(part.digest))


def _blob(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
