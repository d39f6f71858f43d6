"""The registry of checks: a number that is measured, beside the one that theory predicts."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a check found, and what theory says; the prediction is not zero."""

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
        tolerance: The check passes when the relative error is at most this.
        measure: Makes the measurement, in whatever precision it needs.
    """

    name: str
    tolerance: float
    measure: Callable[[], Measured]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A check and what it found; `problem` says why it could not, and `measured` is None then."""

    check: Check
    measured: Measured | None
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the relative error is at most the tolerance; an error that is nan is not."""
        return self.measured is not None and self.measured.error <= self.check.tolerance


CHECKS: dict[str, Check] = {}


def checks(
    name: str, *, tolerance: float, cases: Mapping[str, tuple[Any, ...]]
) -> Callable[[Callable[..., Measured]], Callable[..., Measured]]:
    """Register a function as one check per case.

    Args:
        name: What is measured; a check is called this and its case, and that must be new.
        tolerance: The largest relative error that passes.
        cases: The function's arguments, by the name of the case.

    Raises:
        ValueError: If a name is taken or the tolerance is no positive number.
    """
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be a finite number above 0; got {tolerance!r}.")
    for case in cases:
        if f"{name}: {case}" in CHECKS:
            raise ValueError(f"name must be new; a check '{name}: {case}' exists already.")

    def register(measure: Callable[..., Measured]) -> Callable[..., Measured]:
        for case, arguments in cases.items():
            whole = f"{name}: {case}"
            CHECKS[whole] = Check(whole, tolerance, lambda given=arguments: measure(*given))
        return measure

    return register


def run_check(check: Check) -> Outcome:
    """Make one measurement; an exception becomes its problem, so that the checks after it run."""
    try:
        return Outcome(check, check.measure())
    except Exception as error:
        return Outcome(check, None, f"{type(error).__name__}: {error}")
