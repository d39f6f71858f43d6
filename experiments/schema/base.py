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
Seed = Annotated[int, pydantic.Field(ge=0, le=2**32 - 1)]
# TOML has arrays, never tuples: only the container is lax, the items stay strict.
Vector = Annotated[tuple[float, ...], pydantic.Field(strict=False, min_length=1)]
Widths = Annotated[tuple[PositiveInt, ...], pydantic.Field(strict=False)]

_SAFE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, pydantic.Field(pattern=_SAFE_NAME, max_length=100)]


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
