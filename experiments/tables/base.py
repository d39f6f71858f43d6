"""What every table of a config shares: strictness, frozen fields and the common field types."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypedDict, TypeVar

import pydantic
import pydantic_core


class Table(pydantic.BaseModel):
    """A TOML table: unknown keys, numbers in quotes, booleans as numbers and nan are refused.

    The validator of a table is built when it is first needed: a config uses few of all kinds.
    """

    model_config = pydantic.ConfigDict(
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        frozen=True,
        validate_default=True,
        defer_build=True,
    )


_Base = TypeVar("_Base", bound=Table)
Key = Any
"""What a key of a table accepts: a type for pydantic, or a pair of one and a default.

A key whose default is None may be left out."""


def field(key: Key) -> tuple[Any, Any]:
    """A key's type and its default, `...` for none."""
    kind, default = key if isinstance(key, tuple) else (key, ...)
    return (kind | None if default is None else kind), default


def define(
    base: type[_Base],
    kind: str,
    name: str,
    about: str,
    fields: Mapping[str, tuple[Any, Any]],
    **members: Any,
) -> type[_Base]:
    """Define a table, as a `class` statement does.

    Args:
        base: the abstract table of its concept.
        kind: its name in a config, the value of the key `kind`.
        name: of what it builds.
        about: its docstring.
        fields: the type and the default of each further key, `...` for none.
        **members: class variables, methods and validators.

    Returns:
        A final subclass of `base`.
    """
    fields = {"kind": (Literal[kind], ...), **fields}
    name = f"{name}Table"
    namespace = {
        "__module__": base.__module__,
        "__qualname__": name,
        "__doc__": about,
        "__annotations__": {name: kind for name, (kind, _) in fields.items()},
        **{name: default for name, (_, default) in fields.items() if default is not ...},
        **members,
    }
    return type(base)(name, (base,), namespace)


class Bounds(TypedDict, total=False):
    """The bounds of a number, as pydantic names them."""

    gt: float | int
    ge: float | int
    lt: float | int
    le: float | int


LARGEST_INT = 2**31 - 1
"""A step number must fit into 32 bits, the widest integer of a float32 run."""

PositiveFloat = Annotated[float, pydantic.Field(gt=0)]
NonNegativeFloat = Annotated[float, pydantic.Field(ge=0)]
Share = Annotated[float, pydantic.Field(gt=0, le=1)]
PositiveInt = Annotated[int, pydantic.Field(ge=1, le=LARGEST_INT)]
# What takes memory is bounded, so that a slip of the hand is refused before it freezes a machine.
MOST_NUMBERS = 10**8
"""How many numbers (weights, entries of a basis) one array of a run may hold."""
MOST_ITEMS = 10**6
"""How many of something there may be that is held in memory one by one: examples, units."""
MOST_WORK = 10**4
"""The same for what is held, or gone through, many times over."""
MOST_TABLES = 100
"""How many tables of one kind a config may have, each of which is compiled."""
Size = Annotated[int, pydantic.Field(ge=1, le=MOST_ITEMS)]
SmallSize = Annotated[int, pydantic.Field(ge=1, le=MOST_WORK)]
Seed = Annotated[int, pydantic.Field(ge=0, le=2**32 - 1)]
# TOML has arrays, never tuples: only the container is lax, the items stay strict.
Vector = Annotated[tuple[float, ...], pydantic.Field(strict=False, min_length=1)]
# Every layer is compiled by itself.
Widths = Annotated[tuple[Size, ...], pydantic.Field(strict=False, max_length=100)]

_SAFE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, pydantic.Field(pattern=_SAFE_NAME, max_length=100)]


def _rows_have_one_length(rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise ValueError(f"must be a matrix, every row of one length; got lengths {lengths}")
    return rows


Matrix = Annotated[
    tuple[Vector, ...],
    pydantic.Field(strict=False, min_length=1),
    pydantic.AfterValidator(_rows_have_one_length),
]


def number_or_word(kind: type, bounds: Bounds, words: tuple[str, ...]) -> Any:
    """A type for a number within bounds, or one of a few words.

    One validator checks both, since an error of each member of a union would be no answer to one
    question.

    Args:
        kind: int or float.
        bounds: of the number.
        words: the words.

    Returns:
        A type for pydantic.
    """
    within: Any = Annotated[kind, pydantic.Field(strict=True, allow_inf_nan=False, **bounds)]
    number = pydantic.TypeAdapter(within, config=pydantic.ConfigDict(defer_build=True))
    allowed = _in_words(kind, bounds)
    allowed += "".join(f', or "{word}"' for word in words)

    def check(value: Any) -> Any:
        if isinstance(value, str) and value in words:
            return value
        try:
            return number.validate_python(value)
        except pydantic.ValidationError:
            raise ValueError(f"must be {allowed}") from None

    return Annotated[kind | str, pydantic.PlainValidator(check)]


def _in_words(kind: type, bounds: Bounds) -> str:
    what = "a whole number" if kind is int else "a number"
    least, most = bounds.get("ge"), bounds.get("le")
    if least is not None and most is not None and most < LARGEST_INT:
        return f"{what} from {least} to {most}"
    words = {"gt": "greater than", "ge": "of at least", "lt": "below", "le": "of at most"}
    said = [
        f"{words[key]} {bounds[key]:g}"
        for key in words
        if bounds.get(key, LARGEST_INT) < LARGEST_INT
    ]
    return " and ".join([f"{what} {said[0]}", *said[1:]]) if said else what


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
    """What a valid table asks for cannot be had.

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
