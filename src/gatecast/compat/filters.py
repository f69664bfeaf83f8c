"""Tags and properties to look for, as the old API writes them."""

from collections.abc import Sequence
from typing import Any


def old_filter(wanted: Sequence[Any] | None) -> list[tuple[str, str | None]]:
    """``"key"`` or ``["key", "value"]`` each, to pairs; None stands for any value."""
    return [
        (item, None) if isinstance(item, str) else (str(item[0]), str(item[1]) if len(item) > 1 else None)
        for item in wanted or ()
    ]
