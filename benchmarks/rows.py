"""The registry of rows: a file registers its own when it is imported; `__main__` imports them."""

import dataclasses
from collections.abc import Callable, Mapping


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a row found.

    Attributes:
        ratio: The measured ratio.
        details: Further numbers behind it, by name.
    """

    ratio: float
    details: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What to call it on the command line.
        target: The ratio is met when it is at most this.
        compares: What is divided by what, one line.
        measure: Makes the measurement.
    """

    name: str
    target: float
    compares: str
    measure: Callable[[], Measured]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A row and what it measured; `error` says why it could not, and `measured` is None then."""

    row: Row
    measured: Measured | None
    error: str | None = None

    @property
    def met(self) -> bool:
        """Whether the ratio is at most its target."""
        return self.measured is not None and self.measured.ratio <= self.row.target


ROWS: dict[str, Row] = {}


def row(
    name: str, *, target: float, compares: str
) -> Callable[[Callable[[], Measured]], Callable[[], Measured]]:
    """Register a function that takes nothing and returns a `Measured` as a row of the table.

    Args:
        name: A new name.
        target: The ratio is met when it is at most this.
        compares: What is divided by what, one line.

    Raises:
        ValueError: If the name is taken.
    """
    if name in ROWS:
        raise ValueError(f"name must be new; a row {name!r} exists already.")

    def register(measure: Callable[[], Measured]) -> Callable[[], Measured]:
        ROWS[name] = Row(name, target, compares, measure)
        return measure

    return register


def run_row(row: Row) -> Outcome:
    """Measure one row; an exception becomes its error, so that the rows after it still run."""
    try:
        return Outcome(row, row.measure())
    except Exception as error:
        return Outcome(row, None, f"{type(error).__name__}: {error}")
