"""The registry of checks: a number that is measured, beside the one that theory predicts."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..system.programs import make_room_for_programs


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a check found, and what theory says.

    Attributes:
        measured: The number that was found.
        predicted: The number that theory gives, which is not zero.
    """

    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """|measured - predicted| / |predicted|."""
        return abs(self.measured - self.predicted) / abs(self.predicted)


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: What is measured, and of what.
        paper: Where the prediction is from.
        equation: The prediction, as a formula.
        tolerance: The largest relative error that passes.
        measure: Makes the measurement, in whatever precision it needs.
    """

    name: str
    paper: str
    equation: str
    tolerance: float
    measure: Callable[[], Measured]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A check, and how it went.

    Attributes:
        check: The check.
        measured: What it found; None if it raised an error.
        problem: The error, in a sentence; empty if there was none.
    """

    check: Check
    measured: Measured | None
    problem: str = ""

    @property
    def passed(self) -> bool:
        """True if the relative error is at most the tolerance, which one that is nan is not."""
        return self.measured is not None and self.measured.error <= self.check.tolerance


CHECKS: dict[str, Check] = {}
"""Every check that was registered, by its name, in the order of the table."""


def checks(
    name: str,
    *,
    paper: str,
    equation: str,
    tolerance: float,
    cases: Mapping[str, tuple[Any, ...]],
) -> Callable[[Callable[..., Measured]], Callable[..., Measured]]:
    """Register a function as one check per case.

    Args:
        name: What is measured. A check has this name with that of its case, which must be new.
        paper: Where the prediction is from.
        equation: The prediction, as a formula.
        tolerance: The largest relative error that passes.
        cases: The function's arguments, by the name of the case.

    Returns:
        A decorator, which returns the function as it is.

    Raises:
        ValueError: if a name is taken, or the tolerance is not a finite number above 0.
    """
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be a finite number above 0; got {tolerance!r}.")
    for case in cases:
        if f"{name}: {case}" in CHECKS:
            raise ValueError(f"name must be new; a check '{name}: {case}' exists already.")

    def register(measure: Callable[..., Measured]) -> Callable[..., Measured]:
        for case, arguments in cases.items():
            whole = f"{name}: {case}"
            CHECKS[whole] = Check(
                whole, paper, equation, tolerance, lambda given=arguments: measure(*given)
            )
        return measure

    return register


def run_check(check: Check) -> Outcome:
    """Make one measurement.

    An exception becomes the outcome's problem, so that the checks after it are made all the same.
    """
    make_room_for_programs()
    try:
        return Outcome(check, check.measure())
    except Exception as error:
        return Outcome(check, None, f"{type(error).__name__}: {error}")
