"""How values are written into messages."""

import datetime
from collections.abc import Mapping


def show(value: object) -> str:
    """Write a value for a message: as Python or TOML does, in at most 60 characters."""
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
