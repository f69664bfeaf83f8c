"""Assembly text, one instruction a line. See docs/spec/isa.md §9. Text and instructions are one-to-one."""

import re
from collections.abc import Iterable

import numpy as np

from ..errors import ProgramError
from .fields import FORMAT_NAMES, NONE, UNITS, Field
from .instructions import BY_NAME, Instruction, Kind

_TOKEN = re.compile(r"(wait|signal)\(([^)]*)\)|([a-z_]+)=(\S+)")
_VIEW_PARTS = ("address", "row", "pixel", "format")


def show(instruction: Instruction) -> str:
    """One line: fields at their defaults are left out, views are written `@address:row:pixel:format`."""
    kind, parts = instruction.kind, [f"{instruction.name:9s}"]
    for field in kind.fields[2:]:  # after wait and signal, which come last
        stem, _, part = field.name.rpartition("_")
        if stem in kind.views and part in _VIEW_PARTS:
            if part == "address" and getattr(instruction, f"{stem}_format") != NONE:
                parts.append(f"{stem}={_show_view(instruction, stem)}")
            continue
        value = getattr(instruction, field.name)
        if value != field.default:
            parts.append(f"{field.name}={_show_value(field, value)}")
    for mask in ("wait", "signal"):
        names = ",".join(unit for i, unit in enumerate(UNITS) if getattr(instruction, mask) >> i & 1)
        parts += [f"{mask}({names})"] if names else []
    return " ".join(parts).rstrip()


def _show_view(instruction: Instruction, stem: str) -> str:
    view = instruction.view(stem)
    return f"@{view.address}:{view.row}:{view.pixel}:{view.format}"


def _show_value(field: Field, value: int | float) -> str:
    if field.kind == "float32":
        return str(np.float32(value))  # the shortest text that reads back as the same float32
    names = {"format": FORMAT_NAMES, "unit": UNITS}.get(field.unit)
    return names[int(value)] if names else str(value)


def parse(line: str) -> Instruction:
    """Instruction of one line; ProgramError says which part cannot be read."""
    name, _, rest = line.partition(";")[0].strip().partition(" ")
    kind = BY_NAME.get(name)
    if kind is None:
        raise ProgramError(f"Instruction must be one of {', '.join(BY_NAME)}, not {name!r}")
    values: dict[str, object] = {}
    for token in rest.split():
        for field, value in _parse_token(kind, token).items():
            if field in values:
                raise ProgramError(f"Field {name}.{field} must be given once")
            values[field] = value
    return Instruction(name, **values)


def _parse_token(kind: Kind, token: str) -> dict[str, object]:
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ProgramError(f"Part of {kind.name} must be name=value, wait(…) or signal(…), not {token!r}")
    mask, names, name, value = match.groups()
    if mask:
        return {mask: tuple(names.split(","))}
    if name in kind.views:
        return _parse_view(kind, name, value)
    if name not in kind.index or name in ("wait", "signal"):
        raise ProgramError(f"Instruction {kind.name} has no field {name}")
    return {name: _parse_value(kind, kind.fields[kind.index[name]], value)}


def _parse_value(kind: Kind, field: Field, value: str) -> object:
    named = field.unit in ("format", "unit")
    try:
        if field.kind == "float32":
            return float(value)
        return value if named and not value[0].isdigit() else int(value, 0)
    except ValueError:
        expected = "a number" if field.kind == "float32" else "an integer"
        raise ProgramError(f"Field {kind.name}.{field.name} must be {expected}, not {value!r}") from None


def _parse_view(kind: Kind, stem: str, value: str) -> dict[str, object]:
    parts = value.removeprefix("@").split(":")
    if not value.startswith("@") or len(parts) != len(_VIEW_PARTS):
        raise ProgramError(f"View {kind.name}.{stem} must be @address:row:pixel:format, not {value!r}")
    fields = [kind.fields[kind.index[f"{stem}_{part}"]] for part in _VIEW_PARTS]
    return {f.name: _parse_value(kind, f, part) for f, part in zip(fields, parts, strict=True)}


def listing(instructions: Iterable[Instruction]) -> str:
    """Assembly of instructions, a line each."""
    return "".join(show(instruction) + "\n" for instruction in instructions)


def assemble(text: str) -> tuple[Instruction, ...]:
    """Instructions of assembly text; empty lines and comments are skipped, errors name the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.partition(";")[0].strip():
            try:
                found.append(parse(line))
            except ProgramError as error:
                raise ProgramError(f"Line {number}: {error}", error.hint) from None
    return tuple(found)
