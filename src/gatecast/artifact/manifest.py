"""The manifest of an artifact: all that is not a stage's own bytes, as canonical JSON.

Ref: docs/spec/artifact.md §2.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from gatecast.errors import FileError, GatecastError
from gatecast.graph import Interface, Signature, preprocessing_from_json
from gatecast.isa import Program

from .stages import HostStage, ImageStage, LayerReport, ProgramStage, Stage

MAX_BYTES = 1 << 26
_KEYS = (
    "formats",
    "interface",
    "layers",
    "name",
    "provenance",
    "shapes",
    "signature",
    "stages",
    "target",
)


def canonical_json(value: object) -> bytes:
    """One text for one value: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def write_manifest(values: Mapping[str, Any]) -> bytes:
    """Return the manifest of an `Artifact` with these fields; `parse_manifest` reads it."""
    return canonical_json(
        {
            **values,
            "interface": values["interface"].to_json(),
            "layers": [asdict(layer) for layer in values["layers"]],
            "provenance": dict(values["provenance"]),
            "shapes": {name: list(shape) for name, shape in values["shapes"].items()},
            "signature": values["signature"].to_json(),
            "stages": [_stage_to_json(stage) for stage in values["stages"]],
        }
    )


def _stage_to_json(stage: Stage) -> dict[str, Any]:
    if isinstance(stage, ImageStage):
        return {
            "kind": "image",
            "port": stage.port,
            "preprocessing": asdict(stage.preprocessing),
            "value": stage.value,
        }
    kind = "host" if isinstance(stage, HostStage) else "program"
    return {"inputs": list(stage.inputs), "kind": kind, "name": stage.name, "outputs": list(stage.outputs)}


def parse_manifest(sections: Mapping[str, memoryview], where: str) -> dict[str, Any]:
    """Fields of an `Artifact` from the sections of a file; FileError names what has another form."""
    data = _json(sections, where)
    try:
        stages = tuple(_stage(s, number, sections, where) for number, s in enumerate(data["stages"]))
        _check_sections(sections, stages, where)
        return {
            "formats": _text(data["formats"]),
            "interface": Interface.from_json(data["interface"]),
            "layers": tuple(_layer(layer) for layer in data["layers"]),
            "name": _text(data["name"]),
            "provenance": _typed(data["provenance"], dict),
            "shapes": {name: _shape(shape) for name, shape in data["shapes"].items()},
            "signature": Signature.from_json(data["signature"]),
            "stages": stages,
            "target": _text(data["target"]),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, GatecastError):
            raise
        raise FileError(f"Section manifest of {where} must have the form of version 1: {error!r}") from error


def _json(sections: Mapping[str, memoryview], where: str) -> dict[str, Any]:
    content = sections.get("manifest", b"")
    if len(content) > MAX_BYTES:
        raise FileError(
            f"Section manifest of {where} must have at most {MAX_BYTES} bytes, not {len(content)}"
        )
    try:
        data = json.loads(bytes(content))
    except (ValueError, RecursionError):
        raise FileError(f"Section manifest of {where} must be JSON") from None
    if not isinstance(data, dict) or sorted(data) != list(_KEYS):
        raise FileError(f"Section manifest of {where} must hold {', '.join(_KEYS)}")
    return data


def _stage(data: Mapping[str, Any], number: int, sections: Mapping[str, memoryview], where: str) -> Stage:
    if data["kind"] == "image":
        return ImageStage(
            _text(data["port"]), _text(data["value"]), preprocessing_from_json(data["preprocessing"])
        )
    if data["kind"] not in ("host", "program"):
        raise ValueError(f"kind of stage {number} is {data['kind']!r}")
    name, content = _text(data["name"]), sections[f"stage {number}"]
    inputs, outputs = (tuple(_text(value) for value in data[side]) for side in ("inputs", "outputs"))
    if data["kind"] == "host":
        return HostStage(name, bytes(content), inputs, outputs)
    try:
        program = Program.from_bytes(content)
    except GatecastError as error:
        raise FileError(f"Section stage {number} of {where}: {error}", error.hint) from error
    return ProgramStage(name, program, inputs, outputs)


def _check_sections(sections: Mapping[str, memoryview], stages: tuple[Stage, ...], where: str) -> None:
    known = {f"stage {n}" for n, stage in enumerate(stages) if not isinstance(stage, ImageStage)}
    if unknown := sorted(set(sections) - known - {"manifest"}):
        raise FileError(f"Artifact {where} must have no section that is not a stage's: {', '.join(unknown)}")


def _layer(data: Mapping[str, Any]) -> LayerReport:
    if set(data) != {spec.name for spec in fields(LayerReport)}:
        raise ValueError(f"layer {data.get('name')!r} has other fields")
    values: dict[str, Any] = {
        key: _text(value) if key in ("name", "kind", "where") else _count(value)
        for key, value in data.items()
    }
    return LayerReport(**values)


def _shape(data: Any) -> tuple[int, ...]:
    return tuple(_count(size) for size in _typed(data, list))


def _text(value: Any) -> str:
    text: str = _typed(value, str)
    return text


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _typed(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
