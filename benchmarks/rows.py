"""The registry of rows: a file registers its rows when `__main__` imports it."""

import dataclasses
from collections.abc import Callable, Mapping


@dataclasses.dataclass(frozen=True)
class Measured:
    """The outcome of a measurement.

    Attributes:
        ratio: The measured ratio.
        details: The numbers that it was computed from, and others that explain it, by name.
    """

    ratio: float
    details: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Its name on the command line.
        target: The largest ratio that passes.
        compares: One line that says what is divided by what.
        measure: The function that makes the measurement.
    """

    name: str
    target: float
    compares: str
    measure: Callable[[], Measured]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A row with its measurement, or with the error that prevented it.

    Attributes:
        row: The row.
        measured: What it measured; None if it raised.
        error: Class and message of what it raised; None if it did not.
    """

    row: Row
    measured: Measured | None
    error: str | None = None

    @property
    def met(self) -> bool:
        """True if the ratio was measured and is at most its target."""
        return self.measured is not None and self.measured.ratio <= self.row.target


ROWS: dict[str, Row] = {}


def row(
    name: str, *, target: float, compares: str
) -> Callable[[Callable[[], Measured]], Callable[[], Measured]]:
    """Register a function without arguments that returns a `Measured` as a row of the table.

    Args:
        name: The name of the row on the command line, which no other row has.
        target: The largest ratio that passes.
        compares: One line that says what is divided by what.

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
    """Measure one row. An exception becomes its error, so that the rows after it still run."""
    try:
        return Outcome(row, row.measure())
    except Exception as error:
        return Outcome(row, None, f"{type(error).__name__}: {error}")
