"""Tags, properties and description of a row: as they are first written, and as they change."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import TypedDict

from .labels import checked_description, checked_labels, with_properties, with_tags
from .store import to_json


class Notes(TypedDict, total=False):
    """What a thing bears in the workspace besides its name."""

    tags: Mapping[str, str] | None
    properties: Mapping[str, str] | None
    description: str


class Changes(TypedDict, total=False):
    """What may change of it: properties can be added, and stay; a description of None stays too."""

    add_tags: Mapping[str, str] | None
    remove_tags: Sequence[str]
    add_properties: Mapping[str, str] | None
    description: str | None


def first_notes(notes: Notes) -> dict[str, str]:
    """Return the columns ``tags``, ``properties`` and ``description`` of a new row."""
    return {
        "tags": to_json(checked_labels(notes.get("tags") or {}, "tags")),
        "properties": to_json(checked_labels(notes.get("properties") or {}, "properties")),
        "description": checked_description(notes.get("description", "")),
    }


def changed_notes(row: sqlite3.Row, whose: str, changes: Changes) -> dict[str, str]:
    """Return the same columns after a change; WorkspaceError if a property of `whose` would change."""
    tags = with_tags(json.loads(row["tags"]), changes.get("add_tags") or {}, changes.get("remove_tags", ()))
    properties = with_properties(json.loads(row["properties"]), changes.get("add_properties") or {}, whose)
    description = changes.get("description")
    return {
        "tags": to_json(tags),
        "properties": to_json(properties),
        "description": row["description"] if description is None else checked_description(description),
    }
