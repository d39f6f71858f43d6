"""How a message shows a value that was given."""

import datetime
from collections.abc import Mapping
from typing import Any


def show(value: Any) -> str:
    """Write a value as a message shows it.

    Args:
        value: what a config, or a command line, gave.

    Returns:
        At most 60 characters, as Python or TOML writes the value.

    Example:
        >>> from experiments.system.shown import show
        >>> show(True), show({"a": 1}), show("x")
        ('true', 'a table', "'x'")
    """
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
