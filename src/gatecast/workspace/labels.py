"""Names, versions, tags and properties: what may be written, and which records a filter takes."""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from gatecast.errors import WorkspaceError

LONGEST_NAME = 255
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
LONGEST_KEY = 255
LONGEST_VALUE = 8192
MOST_LABELS = 256
LARGEST_VERSION = (1 << 63) - 1

Filter: TypeAlias = Sequence[tuple[str, str | None]]
"""Keys with the value they must have, or None for any."""


class Labelled(Protocol):
    """A record with tags and properties."""

    @property
    def tags(self) -> Mapping[str, str]:
        """Words that may change."""

    @property
    def properties(self) -> Mapping[str, str]:
        """Facts that never do."""


def checked_name(name: str, what: str, hint: str = "Choose another name.") -> str:
    """Return a name that may be used for versioned things; WorkspaceError if it may not."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise WorkspaceError(
            f"Name of {what} must be 1 to 255 letters, digits, '.', '_' or '-', the first a letter or digit, "
            f"not {name!r}",
            hint=hint,
        )
    return name


def split_id(text: str, what: str) -> tuple[str, int | None]:
    """Split ``name`` or ``name:version``; WorkspaceError for anything else."""
    name, colon, version = text.partition(":")
    checked_name(name, what)
    if not colon:
        return name, None
    return name, checked_version(version, name, name)


def checked_version(text: str, name: str, whose: str) -> int:
    """Return the number of a version; WorkspaceError for anything else, naming `whose` it is."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= LARGEST_VERSION):
        raise WorkspaceError(
            f"Version of {whose} must be a whole number from 1, not {text!r}",
            hint=f"Leave the version out for the latest: {name}.",
        )
    return int(text)


def checked_labels(labels: Mapping[str, str], what: str) -> dict[str, str]:
    """Return a copy of tags or properties; WorkspaceError for a wrong key or value, naming it."""
    if len(labels) > MOST_LABELS:
        raise WorkspaceError(f"At most {MOST_LABELS} {what} may be given, not {len(labels)}")
    for key, value in labels.items():
        if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY or not key.isprintable() or "=" in key:
            raise WorkspaceError(
                f"Keys of {what} must be 1 to {LONGEST_KEY} printable characters without '=', not {key!r}",
                hint="Write KEY=VALUE.",
            )
        if not isinstance(value, str) or len(value) > LONGEST_VALUE or not _is_text(value):
            raise WorkspaceError(
                f"Value of {key} in {what} must be text of at most {LONGEST_VALUE} characters",
                hint="Put long things into a file of their own.",
            )
    return dict(labels)


def checked_description(text: str) -> str:
    """Return a description; WorkspaceError if it is no text or too long."""
    if not isinstance(text, str) or len(text) > LONGEST_VALUE or not _is_text(text):
        raise WorkspaceError(
            f"Description must be text of at most {LONGEST_VALUE} characters", hint="Write a shorter one."
        )
    return text


def with_tags(old: Mapping[str, str], add: Mapping[str, str], remove: Sequence[str]) -> dict[str, str]:
    """Return tags with some removed, then some added; removing one that is not there is no error."""
    kept = {key: value for key, value in old.items() if key not in remove}
    return checked_labels({**kept, **checked_labels(add, "tags")}, "tags")


def with_properties(old: Mapping[str, str], add: Mapping[str, str], whose: str) -> dict[str, str]:
    """Return properties with some added; WorkspaceError if one would change."""
    for key, value in add.items():
        if old.get(key, value) != value:
            raise WorkspaceError(
                f"Property {key} of {whose} must stay {old[key]!r}, not become {value!r}",
                hint="Properties can be added, never changed; use a tag for what changes.",
            )
    return checked_labels({**old, **add}, "properties")


def has_labels(record: Labelled, tags: Filter, properties: Filter) -> bool:
    """Whether a record has all of these."""
    return _has(record.tags, tags) and _has(record.properties, properties)


def _has(labels: Mapping[str, str], wanted: Filter) -> bool:
    return all(key in labels and value in (None, labels[key]) for key, value in wanted)


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8, which half a surrogate pair cannot, and holds no NUL."""
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
