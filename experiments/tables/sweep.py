"""The `[sweep]` table: which keys of a config take which values, every combination one run."""

from typing import Annotated, Any, Literal

import pydantic

from ..system.text import show
from .base import Name, PositiveInt, Table, refuse
from .figures import SweepFigureNames

MAX_POINTS = 10**5
# Of the gathered results themselves; `point` numbers the runs before they are laid on the grid.
_RESERVED = frozenset({"step", "mode", "trajectory", "point", "quantity", "parameter"})


class AxisTable(Table):
    """`[[sweep.over]]`: a key of the config and its values.

    Either `values`, one after the other, or `points` numbers from `start` to `stop`, both
    included, evenly spaced (`spacing = "linear"`) or with a constant ratio (`"log"`).
    """

    key: Annotated[str, pydantic.Field(min_length=1, max_length=200)]
    values: Annotated[tuple[Any, ...], pydantic.Field(strict=False, min_length=1)] | None = None
    start: float | None = None
    stop: float | None = None
    points: PositiveInt | None = None
    spacing: Literal["linear", "log"] = "linear"

    @pydantic.model_validator(mode="after")
    def _values_are_given_in_one_way(self) -> "AxisTable":
        ends = {"start": self.start, "stop": self.stop, "points": self.points}
        if not all(self.key.split(".")) or self.key.split(".")[0] == "sweep":
            raise refuse("key", f"given {self.key!r}; must be a key of the config, as in 'seed'")
        if self.values is not None:
            given = [name for name, value in ends.items() if value is not None]
            if given:
                raise refuse(given[0], "given beside values; must be left out")
            twice = _repeated(self.values)
            if twice:
                message = (
                    f"given {show(twice[0])} twice; once is allowed, since it tells the runs apart"
                )
                raise refuse("values", message)
            return self
        missing = [name for name, value in ends.items() if value is None]
        if missing:
            raise refuse(missing[0], "missing; give values, or start, stop and points")
        assert self.start is not None
        assert self.stop is not None
        assert self.points is not None
        if self.points > MAX_POINTS:
            raise refuse("points", f"given {self.points}; must be at most {MAX_POINTS}")
        if self.points > 1 and self.start == self.stop:
            raise refuse("stop", f"given {self.stop:g}; must differ from start")
        if self.spacing == "log" and not (self.start > 0 and self.stop > 0):
            raise refuse("start", f"given {self.start:g} to {self.stop:g}; log needs both positive")
        return self

    @property
    def all_values(self) -> tuple[Any, ...]:
        """The values, one after the other."""
        if self.values is not None:
            return self.values
        assert self.start is not None
        assert self.stop is not None
        assert self.points is not None
        import numpy as np

        spaced = np.geomspace if self.spacing == "log" else np.linspace
        return tuple(spaced(self.start, self.stop, self.points).tolist())

    @property
    def size(self) -> int:
        """How many values there are, without making them."""
        return self.points or len(self.values or ())


class SweepTable(Table):
    """`[sweep]`: the axes of the grid, what of each run is kept, and what is drawn.

    `series` keeps what was measured along each run, not only the numbers that sum it up;
    `quantity` is what the figure `sweep` draws.
    """

    over: Annotated[tuple[AxisTable, ...], pydantic.Field(strict=False, min_length=1, max_length=8)]
    series: bool = True
    quantity: Name = "final_loss"
    figures: SweepFigureNames = ("sweep",)

    @pydantic.model_validator(mode="after")
    def _axes_differ_and_are_not_too_many(self) -> "SweepTable":
        total = 1
        for index, axis in enumerate(self.over):
            if any(axis.key == other.key for other in self.over[:index]):
                raise refuse(f"over[{index}].key", f"given {axis.key!r} twice; once is allowed")
            total *= axis.size
        if total > MAX_POINTS:
            raise refuse("over", f"{total} runs; a sweep may have at most {MAX_POINTS}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The axes' names in the gathered results: the shortest ends of the keys that differ."""
        keys = [axis.key.split(".") for axis in self.over]
        return tuple(_shortest(parts, [k for k in keys if k is not parts]) for parts in keys)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values along each axis."""
        return tuple(axis.size for axis in self.over)


class SweepExperiment(Table):
    """A config with a table `[sweep]`: all its other keys are those of each run.

    In TOML there is no table `base`: its keys stand at the top, as in any other config.
    """

    name: Name
    description: str = ""
    sweep: SweepTable
    base: dict[str, Any]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _gather_base(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        own = {"name", "description", "sweep"}
        base = {key: value for key, value in data.items() if key not in own}
        return {**{key: value for key, value in data.items() if key in own}, "base": base}

    @pydantic.model_serializer(mode="wrap")
    def _spread_base(self, handler: Any) -> dict[str, Any]:
        dumped = handler(self)
        base = dumped.pop("base")
        return {"name": dumped["name"], "description": dumped["description"], **base, **dumped}

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures of the sweep as a whole; its runs draw none."""
        return self.sweep.figures


def _repeated(values: tuple[Any, ...]) -> list[Any]:
    """The values that are there before; 1 and 1.0 are one."""
    seen: set[Any] = set()
    found = []
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        key = value if number else repr(value)
        if key in seen:
            found.append(value)
        seen.add(key)
    return found


def _shortest(parts: list[str], others: list[list[str]]) -> str:
    for length in range(1, len(parts)):
        end = parts[-length:]
        name = "_".join(end)
        clash = name in _RESERVED or name.isdigit() or any(o[-length:] == end for o in others)
        if not clash:
            return name
    whole = "_".join(parts)
    return f"{whole}_" if whole in _RESERVED else whole
