"""Outcomes of checks as a table."""

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
