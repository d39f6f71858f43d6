"""Types of fields that several studies have, and checks of several fields at once."""

from collections.abc import Iterable
from typing import Annotated, TypeVar

import pydantic

from ..tables.base import PositiveFloat, Table, refuse

_Item = TypeVar("_Item")


def _differ(values: tuple[int | float, ...]) -> tuple[int | float, ...]:
    if len({f"{value:g}" for value in values}) < len(values):
        raise ValueError("must differ in their first six digits, which name the parts")
    return values


def _once(values: tuple[_Item, ...]) -> tuple[_Item, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must hold each entry once")
    return values


Distinct = pydantic.AfterValidator(_differ)
"""Refuses numbers that would name parts alike."""
Once = pydantic.AfterValidator(_once)
"""Refuses entries that are there twice."""

Positives = Annotated[
    tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=1), Distinct
]
"""Different numbers above 0, at least one."""
Pair = Annotated[tuple[float, ...], pydantic.Field(strict=False, min_length=2, max_length=2)]
"""A point or a velocity of two parameters."""
Saves = Annotated[int, pydantic.Field(ge=2, le=100_000)]
"""How many points of a path are stored."""


def check_order(table: Table, lower: str, upper: str) -> None:
    """Refuse a range that is empty.

    Args:
        table: The table that is validated.
        lower: The key of the range's lower end.
        upper: The key of its upper end, which is blamed.
    """
    low, high = getattr(table, lower), getattr(table, upper)
    if high <= low:
        raise refuse(upper, f"given {high:g}; must be greater than {lower} = {low:g}")


def named(prefix: str, values: Iterable[float]) -> dict[str, float]:
    """Return values by the names of the parts that they make, as in "radius-0.1"."""
    return {f"{prefix}-{value:g}": value for value in values}
