"""How values are written into messages."""

import datetime
from collections.abc import Mapping
from typing import Any


def show(value: Any) -> str:
    """A value as a message shows it: as Python or TOML writes it, in at most 60 characters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return "a value too long to show"
    return text if len(text) <= 60 else f"{text[:57]}..."
