"""Read an axis of a sweep from `--over KEY=VALUES`."""

import re
from decimal import Decimal
from typing import Any

from ..config.loader import dotted, parse_value
from ..system.errors import ConfigError, Problem

_RANGE = re.compile(r"^(-?\d+):(-?\d+)(?::(-?\d+))?$")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
_DECIMAL_RANGE = re.compile(rf"^({_NUMBER}):({_NUMBER}):({_NUMBER})$")
_SPACED = re.compile(r"^(linspace|geomspace|logspace)\((.*)\)$")
_SPACINGS = {"linspace": "linear", "geomspace": "log", "logspace": "log"}
_FORMS = (
    "expected KEY=VALUES, with VALUES a list (0.01,0.02), a range without its end (0:10 or "
    "0.1:0.5:0.1), linspace(0.1,1,10), geomspace(0.1,1,10) or logspace(-1,0,10), of exponents of 10"
)
_MOST = 10**6
_MOST_EXPONENT = 300


def axis(text: str) -> dict[str, Any]:
    """Read an axis.

    Args:
        text: `KEY=VALUES`, as in `optimizer.learning_rate=0.01,0.02` or `seed=0:10`.

    Returns:
        The equivalent table `[[sweep.over]]`, not validated.

    Raises:
        ConfigError: if it has none of these forms.
    """
    source = f"--over {text}"
    key, equals, values = (part.strip() for part in text.partition("="))
    key = dotted(key)
    if not equals or not key or not values:
        raise ConfigError(source, [Problem("", _FORMS)])
    if found := _RANGE.match(values):
        return {"key": key, "values": _range(found, source, key)}
    if found := _DECIMAL_RANGE.match(values):
        return {"key": key, "values": _decimal_range(found, source, key)}
    if found := _SPACED.match(values):
        numbers = [parse_value(part.strip()) for part in found[2].split(",")]
        wrong = any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers)
        if wrong or len(numbers) != 3:
            raise ConfigError(source, [Problem(key, f"given {values!r}; {_FORMS}")])
        start, stop, points = numbers
        if found[1] == "logspace":
            if max(abs(start), abs(stop)) > _MOST_EXPONENT:
                message = f"given {values!r}; exponents of 10 must be within +-{_MOST_EXPONENT}"
                raise ConfigError(source, [Problem(key, message)])
            start, stop = 10.0**start, 10.0**stop
        spacing = _SPACINGS[found[1]]
        return {"key": key, "start": start, "stop": stop, "points": points, "spacing": spacing}
    listed = parse_value(f"[{values}]")
    if isinstance(listed, list):
        return {"key": key, "values": listed}
    # Words need no quotes, as with --set.
    return {"key": key, "values": [parse_value(part.strip()) for part in values.split(",")]}


def _range(found: re.Match[str], source: str, key: str) -> list[int]:
    try:
        start, stop, step = int(found[1]), int(found[2]), int(found[3] or 1)
    except ValueError:  # Of thousands of digits.
        raise ConfigError(source, [Problem(key, "given a number too long to read")]) from None
    if step == 0:
        raise ConfigError(source, [Problem(key, f"given {found[0]!r}; its step must not be 0")])
    numbers = range(start, stop, step)
    if not 0 < len(numbers) <= _MOST:
        message = f"given {found[0]!r}, {len(numbers)} values; must be from 1 to {_MOST}"
        raise ConfigError(source, [Problem(key, message)])
    return list(numbers)


def _decimal_range(found: re.Match[str], source: str, key: str) -> list[float]:
    """The numbers as decimals, so that 0.1:0.5:0.1 has four and 0.3 is 0.3."""
    start, stop, step = (Decimal(part) for part in found.groups())
    if step == 0:
        raise ConfigError(source, [Problem(key, f"given {found[0]!r}; its step must not be 0")])
    count = -int((start - stop) // step) if (stop - start) / step > 0 else 0
    count += start + count * step != stop and (stop - start - count * step) / step > 0
    if not 0 < count <= _MOST:
        message = f"given {found[0]!r}, {count} values; must be from 1 to {_MOST}"
        raise ConfigError(source, [Problem(key, message)])
    return [float(start + i * step) for i in range(count)]
