"""What every table of a config shares: strictness, frozen fields and the common field types."""

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import pydantic
import pydantic_core


class Table(pydantic.BaseModel):
    """A TOML table: unknown keys, numbers in quotes, booleans as numbers and nan are refused."""

    model_config = pydantic.ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, frozen=True, validate_default=True
    )


PositiveFloat = Annotated[float, pydantic.Field(gt=0)]
NonNegativeFloat = Annotated[float, pydantic.Field(ge=0)]
Fraction = Annotated[float, pydantic.Field(ge=0, lt=1)]
# The bound keeps a step number within 32 bits, the widest integer of a float32 run.
PositiveInt = Annotated[int, pydantic.Field(ge=1, le=2**31 - 1)]
# What takes memory is bounded, so that a slip of the hand is refused before it freezes a machine.
MOST_NUMBERS = 10**8
"""How many numbers (weights, entries of a basis) one array of a run may hold."""
Size = Annotated[int, pydantic.Field(ge=1, le=10**6)]
"""How many of something there are that is held in memory one by one: examples, units, samples."""
SmallSize = Annotated[int, pydantic.Field(ge=1, le=10**4)]
"""The same for what is held, or gone through, many times over."""
MOST_TABLES = 100
"""How many tables of one kind a config may have, each of which is compiled."""
Seed = Annotated[int, pydantic.Field(ge=0, le=2**32 - 1)]
# TOML has arrays, never tuples: only the container is lax, the items stay strict.
Vector = Annotated[tuple[float, ...], pydantic.Field(strict=False, min_length=1)]
# Every layer is compiled by itself.
Widths = Annotated[tuple[Size, ...], pydantic.Field(strict=False, max_length=100)]

_SAFE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, pydantic.Field(pattern=_SAFE_NAME, max_length=100)]


def check_numbers(key: str, given: object, count: int, what: str) -> None:
    """Refuse what would be an array too large to be meant.

    Args:
        key: the key to blame, as a path below the table that is built.
        given: its value.
        count: how many numbers the array would hold.
        what: the array, in words.

    Raises:
        BuildError: if they are more than `MOST_NUMBERS`.
    """
    if count > MOST_NUMBERS:
        message = f"given {given}; {what} of {count} numbers, must be at most {MOST_NUMBERS}"
        raise BuildError(key, message)


def refuse(key: str, message: str) -> pydantic_core.PydanticCustomError:
    """An error to raise in a validator that compares several keys.

    Args:
        key: the key to blame, as a path below the table being validated (`"curvature.every"`).
        message: what was given and what is allowed.

    Returns:
        The exception; the caller raises it.
    """
    context: dict[str, Any] = {"key": key, "message": message}
    return pydantic_core.PydanticCustomError("refused", "{message}", context)


class BuildError(ValueError):
    """A table is valid by itself, and what it asks for cannot be had.

    Args:
        key: the key to blame, as a path below the table that was built.
        message: what was given and what is allowed.
    """

    def __init__(self, key: str, message: str):
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


@contextlib.contextmanager
def building(key: str) -> Iterator[None]:
    """Blame a key for what goes wrong while its table is built.

    Args:
        key: the table, as a path below the table that is being built.

    Raises:
        BuildError: in place of a ValueError or OSError.
    """
    try:
        yield
    except BuildError as error:
        raise BuildError(f"{key}.{error.key}", error.message) from error
    except (ValueError, OSError) as error:
        raise BuildError(key, str(error)) from error
