"""What an operation of kind ``image`` does: compile the model, write the layers, put the image together.

Loaded by the worker alone: the compiler comes with it. Ref: docs/spec/image.md.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gatecast import __version__
from gatecast.artifact import Artifact
from gatecast.compiler import compile as compile_graph
from gatecast.errors import FileError, WorkspaceError
from gatecast.interchange import load
from gatecast.quantization import quantize

from .artifact_layer import ARTIFACT_DIGEST, artifact_entry, model_folder
from .base_image import USER, Base, find_base, read_base
from .blobs import Adding, Blob, digest_of
from .distributions import (
    LIBRARIES,
    PYTHON,
    libraries,
    libraries_key,
    library_entries,
)
from .images import Image
from .images import succeed as succeed_image
from .layer_cache import CachedLayer, LayerCache, cache_folder
from .layers import Entry, Layer, epoch, write_layer
from .log import say
from .models import Model
from .oci import CONFIG, Descriptor, config_json, manifest_json, timestamp
from .operations import Operation, succeed
from .own_files import GATECAST, gatecast_entries, native_extension
from .recipe import FLOAT
from .workspace import Workspace

GRPC_PORT, REST_PORT = 8500, 8501
"""TensorFlow Serving's."""

ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": f"/{GATECAST}:/{LIBRARIES}",
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
}
"""Of a container's processes."""

NO_BASE = (
    "`gatecast image base` was not run, and none was given; only services of kind local can run the image, "
    "until it is made again with a base"
)
"""What is said of an image without a base."""

STEPS = 5

_MAGIC = b"GCARTFCT"


def run(workspace: Workspace, operation: Operation, request: Mapping[str, Any]) -> str:
    """Make the image that is the operation's subject; return its id."""
    image = workspace.images.find(operation.subject)
    model = workspace.models.find(request["models"][0])
    cache = LayerCache(cache_folder())
    base = _base(cache, request["base"])
    with workspace.store.blobs.adding() as adding:
        path = adding.folder / "artifact.gcast"
        artifact = _artifact(workspace, model, request)
        artifact.save(path)
        shared = [*([base.cached] if base else []), _libraries(cache)]
        layers = [_shared(workspace, adding, cached) for cached in shared]
        _step(4, f"Packing Gatecast {__version__} and the model")
        layers.append(_written(adding, "gatecast", list(gatecast_entries())))
        layers.append(_written(adding, "model", [artifact_entry(model.name, path)]))
        labels = _labels(image, model, artifact, base) | {ARTIFACT_DIGEST: digest_of(path)}
        parts = _put_together(adding, layers, _settings(model.name, labels, base))
        _step(5, f"Image {image.location} has manifest {parts['manifest'].digest}")
        with workspace.store.transaction() as database:
            succeed_image(database, image, labels, parts)
            succeed(database, operation.id, image.id)
    return image.id


def _base(cache: LayerCache, path: str | None) -> Base | None:
    """Return the base that is given, else the one that was built; None if there is neither."""
    base = read_base(cache, Path(path)) if path else find_base(cache)
    if base is None:
        _step(1, f"No base: {NO_BASE}")
        return None
    _step(1, f"Base {base.name}")
    if extension := native_extension():
        base.check_extension(extension)
    return base


def _artifact(workspace: Workspace, model: Model, request: Mapping[str, Any]) -> Artifact:
    """Compile a model, or take the artifact that it is."""
    target = request["target"]
    with workspace.models.checkout(model) as path:
        source = _source(model, path)
        with source.open("rb") as file:
            compiled = file.read(len(_MAGIC)) == _MAGIC
        if compiled:
            artifact = Artifact.from_bytes(source.read_bytes(), model.id)
            if artifact.target != target:
                raise WorkspaceError(
                    f"Artifact {model.id} must be compiled for {target}, not {artifact.target}",
                    hint=f"Make the image with `--target {artifact.target}`, or of the network it came from.",
                )
            _step(2, f"{model.id} is compiled for {target}")
            return artifact
        _step(2, f"Compiling {model.id} for {target}")
        graph = load(source)
    if not graph.is_quantized and request["format"] != FLOAT:
        say(f"  quantising to {request['format']}, since it is float")
        graph = quantize(graph, request["format"])
    return compile_graph(graph, target, {"model": model.id, "model_digest": model.digest})


def _source(model: Model, path: Path) -> Path:
    """Return the one network or artifact of a model."""
    if not model.is_folder:
        return path
    found = [path / file.path for file in model.files if file.path.endswith((".onnx", ".gcast"))]
    if len(found) != 1:
        raise WorkspaceError(
            f"Model {model.id} must hold one .onnx or .gcast file, not {len(found)}",
            hint=f"A TensorFlow model is converted first: `gatecast convert {model.id}`.",
        )
    return found[0]


def _libraries(cache: LayerCache) -> CachedLayer:
    packages = libraries()
    key = libraries_key(packages)
    names = ", ".join(f"{package.name} {package.version}" for package in packages)
    if cached := cache.get(key):
        _step(3, f"Libraries as packed before: {names}")
        return cached
    _step(3, f"Packing libraries: {names}")
    return cache.add(key, "libraries", library_entries(packages))


def _shared(workspace: Workspace, adding: Adding, cached: CachedLayer) -> Layer:
    """Take a layer from the cache, unless the workspace has it."""
    layer = cached.layer
    if not workspace.store.blobs.path(layer.digest).exists():
        found = adding.add_file(cached.path).digest
        if found != layer.digest:
            raise FileError(f"Layer {cached.path} must have digest {layer.digest}, not {found}", "Try again.")
    return _told(layer)


def _written(adding: Adding, kind: str, entries: Iterable[Entry]) -> Layer:
    return _told(write_layer(kind, entries, adding.add))


def _told(layer: Layer) -> Layer:
    say(f"  layer {layer.kind}: {layer.size:,} bytes, {layer.digest}")
    return layer


def _put_together(adding: Adding, layers: Sequence[Layer], settings: Mapping[str, Any]) -> dict[str, Blob]:
    """Write configuration and manifest; return these and the layers, by kind."""
    config = adding.add([config_json(layers, settings)])
    manifest = adding.add([manifest_json(Descriptor(CONFIG, config.digest, config.size), layers)])
    parts = {layer.kind: Blob(layer.digest, layer.size) for layer in layers}
    return {"manifest": manifest, "config": config, **parts}


def _settings(name: str, labels: Mapping[str, str], base: Base | None) -> dict[str, Any]:
    """How a container of the image runs; see docs/spec/image.md §4."""
    init = [base.init, "--"] if base and base.init else [] if base else ["/usr/bin/tini", "--"]
    python = base.python if base else f"/usr/bin/python{PYTHON}"
    serve = ["-m", "gatecast", "serve", f"/{model_folder(name)}", "--model_name", name, "--host", "0.0.0.0"]
    return {
        "Entrypoint": [*init, python, *serve, "--port", str(GRPC_PORT), "--rest_api_port", str(REST_PORT)],
        "Env": [f"{key}={value}" for key, value in ENVIRONMENT.items()],
        "ExposedPorts": {f"{GRPC_PORT}/tcp": {}, f"{REST_PORT}/tcp": {}},
        "Labels": dict(labels),
        "StopSignal": "SIGTERM",
        "User": f"{USER}:{USER}",
        "WorkingDir": "/",
    }


def _labels(image: Image, model: Model, artifact: Artifact, base: Base | None) -> dict[str, str]:
    """What an image says of itself; all are text. Neither version nor tags: they are the workspace's."""
    return {
        "org.opencontainers.image.title": image.name,
        "org.opencontainers.image.created": timestamp(epoch()),
        "org.opencontainers.image.base.name": base.name if base else "none",
        "io.gatecast.version": __version__,
        "io.gatecast.python": PYTHON,
        "io.gatecast.base": base.cached.layer.diff_id if base else "none",
        "io.gatecast.target": artifact.target,
        "io.gatecast.format": artifact.formats,
        "io.gatecast.model": model.id,
        "io.gatecast.model.digest": model.digest,
        "io.gatecast.signature": _text(artifact.signature.to_json()),
        "io.gatecast.provenance": _text(dict(artifact.provenance)),
        "io.gatecast.port.grpc": str(GRPC_PORT),
        "io.gatecast.port.rest": str(REST_PORT),
    }


def _step(number: int, message: str) -> None:
    say(f"[{number}/{STEPS}] {message}")


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
