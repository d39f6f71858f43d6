"""Outcomes of checks as a table, and as records for other programs."""

import math
from collections.abc import Sequence

import rich.box
import rich.table
import rich.text

from .checks import Outcome


def table(outcomes: Sequence[Outcome]) -> rich.table.Table:
    """Return outcomes as a table for a terminal.

    Args:
        outcomes: One line each, in this order. Below a check that raised an error is its sentence.
    """
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown.add_column("check")
    for heading in ("measured", "predicted", "relative\nerror", "allowed"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("pass", no_wrap=True)
    for outcome in outcomes:
        found = outcome.measured
        numbers = ("-", "-", "-")
        if found is not None:
            numbers = (f"{found.measured:.10g}", f"{found.predicted:.10g}", f"{found.error:.1e}")
        shown.add_row(
            rich.text.Text(outcome.check.name),
            *numbers,
            f"{outcome.check.tolerance:g}",
            rich.text.Text("yes" if outcome.passed else "NO", "" if outcome.passed else "red"),
        )
        if outcome.problem:
            shown.add_row(rich.text.Text(outcome.problem, "red"))
    return shown


def records(outcomes: Sequence[Outcome]) -> list[dict[str, str | float | None]]:
    """Return outcomes as records that JSON can hold, in this order.

    Args:
        outcomes: One record each: `check`, `paper`, `equation`, `measured`, `predicted`, `error`
            (relative), `tolerance`, `status` ("pass" or "fail") and `problem`. The numbers of a
            check that raised an error are None, and so is one that is not finite.
    """

    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    found = []
    for outcome in outcomes:
        numbers: dict[str, float | None] = dict.fromkeys(("measured", "predicted", "error"))
        if outcome.measured is not None:
            numbers = {name: finite(getattr(outcome.measured, name)) for name in numbers}
        found.append(
            {
                "check": outcome.check.name,
                "paper": outcome.check.paper,
                "equation": outcome.check.equation,
                **numbers,
                "tolerance": outcome.check.tolerance,
                "status": "pass" if outcome.passed else "fail",
                "problem": outcome.problem,
            }
        )
    return found
