"""Schedules: the tables that may be in place of a number, `learning_rate = { kind = ... }`.

Each built-in kind is a schedule function of optax, with the names and defaults of its arguments.
Those that jump (`staircase`, piecewise constants) are left out: a flow follows a schedule between
two steps too.
"""

import abc
import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import pydantic

from .base import (
    LARGEST_INT,
    Bounds,
    Key,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Table,
    define,
    field,
    refuse,
)
from .kinds import OneOf, Registry

if TYPE_CHECKING:
    import flows
    from flows.core.schedules import Function

_Count = Annotated[int, pydantic.Field(ge=0, le=LARGEST_INT)]
# A step, and what the value is multiplied with there.
_Scale = Annotated[tuple[PositiveInt, NonNegativeFloat], pydantic.Field(strict=False)]


class AbstractScheduleTable(Table, abc.ABC):
    """A table that builds a function of the step."""

    kind: str

    @abc.abstractmethod
    def build(self) -> "flows.Schedule | Function":
        """Build the schedule: a function from the step to the number."""


SCHEDULES: Registry[type[AbstractScheduleTable]] = Registry("schedule")


def _number_first(bounds: Bounds) -> pydantic.WrapValidator:
    """Check a number against its bounds, and leave a table to the validator inside."""
    within: Any = Annotated[float, pydantic.Field(strict=True, allow_inf_nan=False, **bounds)]
    number = pydantic.TypeAdapter(within, config=pydantic.ConfigDict(defer_build=True))

    def check(value: Any, table: Callable[[Any], Any]) -> Any:
        if isinstance(value, Mapping | AbstractScheduleTable):
            return table(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            kinds = ", ".join(SCHEDULES.entries)
            raise ValueError(
                f"must be a number, or a table {{ kind = ... }} of a schedule ({kinds})"
            )
        return number.validate_python(value)

    return pydantic.WrapValidator(check)


LearningRate: TypeAlias = pydantic.SerializeAsAny[
    Annotated[float | AbstractScheduleTable, OneOf(SCHEDULES), _number_first({"gt": 0})]
]
"""A number above 0, or the table of a schedule."""


def number_or_schedule(bounds: Bounds) -> Any:
    """Make the type of a key as `LearningRate`, whose number has other bounds."""
    number_first = _number_first(bounds)
    return pydantic.SerializeAsAny[
        Annotated[float | AbstractScheduleTable, OneOf(SCHEDULES), number_first]
    ]


def written(value: float | AbstractScheduleTable) -> float | str:
    """Return a number as it is, and a schedule in words, for an attribute of a store."""
    if not isinstance(value, AbstractScheduleTable):
        return value
    given = value.model_dump(exclude={"kind"}, exclude_none=True)
    return f"{value.kind}({', '.join(f'{key}={one}' for key, one in given.items())})"


def _optax_table(
    kind: str, function: str, keys: Mapping[str, Key], **validators: Any
) -> type[AbstractScheduleTable]:
    """Define the table of a schedule function of optax."""

    def build(self: AbstractScheduleTable) -> "Function":
        import optax

        given = self.model_dump(exclude={"kind"}, exclude_none=True)
        pairs = given.pop("boundaries_and_scales", None)
        scales = {} if pairs is None else {"boundaries_and_scales": dict(pairs)}
        return getattr(optax, function)(**given, **scales)

    fields = {name: field(key) for name, key in keys.items()}
    about = f'`kind = "{kind}"`: the arguments of `optax.{function}`.'
    members = {"build": build, **validators}
    return define(AbstractScheduleTable, kind, function, about, fields, **members)


def _warmup_ends_first(table: Any) -> Any:
    if table.decay_steps <= table.warmup_steps:
        message = f"given {table.decay_steps}; must be above warmup_steps = {table.warmup_steps}"
        raise refuse("decay_steps", f"{message}, which it includes")
    return table


def _boundaries_rise(table: Any) -> Any:
    steps = [step for step, _ in table.boundaries_and_scales]
    if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        message = f"given the steps {steps}; must be pairs of a step and a factor, in order"
        raise refuse("boundaries_and_scales", message)
    return table


def _at_least_one(value: float) -> float:
    if value < 1:
        raise ValueError(
            "must be at least 1: below, the schedule has no finite rate of change at its end, "
            "which flows use"
        )
    return value


_Exponent = Annotated[PositiveFloat, pydantic.AfterValidator(_at_least_one)]
_BETWEEN = {"init_value": NonNegativeFloat, "end_value": NonNegativeFloat}
_TRANSITION = {"transition_steps": PositiveInt, "transition_begin": (_Count, 0)}
_WARMUP = {"init_value": NonNegativeFloat, "peak_value": PositiveFloat, "warmup_steps": PositiveInt}
_DECAY = {
    **_TRANSITION,
    "decay_rate": PositiveFloat,
    "end_value": (NonNegativeFloat, None),
}
_SCALES = Annotated[tuple[_Scale, ...], pydantic.Field(strict=False, min_length=1)]

for _table in (
    _optax_table("constant", "constant_schedule", {"value": PositiveFloat}),
    _optax_table("linear", "linear_schedule", {**_BETWEEN, **_TRANSITION}),
    _optax_table(
        "polynomial", "polynomial_schedule", {**_BETWEEN, "power": _Exponent, **_TRANSITION}
    ),
    _optax_table(
        "cosine_decay",
        "cosine_decay_schedule",
        {
            "init_value": PositiveFloat,
            "decay_steps": PositiveInt,
            "alpha": (NonNegativeFloat, 0.0),
            "exponent": (_Exponent, 1.0),
        },
    ),
    _optax_table("exponential_decay", "exponential_decay", {"init_value": PositiveFloat, **_DECAY}),
    _optax_table(
        "piecewise_interpolate",
        "piecewise_interpolate_schedule",
        {
            "interpolate_type": Literal["linear", "cosine"],
            "init_value": PositiveFloat,
            "boundaries_and_scales": _SCALES,
        },
        in_order=pydantic.model_validator(mode="after")(_boundaries_rise),
    ),
    _optax_table("warmup_constant", "warmup_constant_schedule", _WARMUP),
    _optax_table(
        "warmup_cosine",
        "warmup_cosine_decay_schedule",
        {
            **_WARMUP,
            "decay_steps": PositiveInt,
            "end_value": (NonNegativeFloat, 0.0),
            "exponent": (_Exponent, 1.0),
        },
        decays=pydantic.model_validator(mode="after")(_warmup_ends_first),
    ),
    _optax_table(
        "warmup_exponential_decay", "warmup_exponential_decay_schedule", {**_WARMUP, **_DECAY}
    ),
):
    SCHEDULES.add(_table)
