"""Outcomes as a table for people and as JSON for programs."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .rows import Outcome

# Wide enough for the table when the output is a file or a pipe.
_WIDTH = 120


def wide_console() -> Console:
    """Return a console as wide as the terminal, or wide enough for a table where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return the outcomes as a table, one row per outcome."""
    made = Table(title="Each row is measured in this one run", show_lines=True)
    made.add_column("row", no_wrap=True)
    made.add_column("ratio", justify="right", no_wrap=True)
    made.add_column("target", justify="right", no_wrap=True)
    made.add_column("met", no_wrap=True)
    made.add_column("compares")
    made.add_column("details")
    for outcome in outcomes:
        measured = outcome.measured
        if measured is None:
            ratio, verdict, details = "-", "[red]error", outcome.error or ""
        else:
            ratio = f"{measured.ratio:.3g}"
            verdict = "[green]pass" if outcome.met else "[red]FAIL"
            details = "\n".join(f"{name}: {x:.6g}" for name, x in measured.details.items())
        made.add_row(
            outcome.row.name,
            ratio,
            f"<= {outcome.row.target:g}",
            verdict,
            outcome.row.compares,
            details,
        )
    return made


def as_json(outcomes: Sequence[Outcome], environment: dict[str, str]) -> str:
    """Return the outcomes as a JSON document.

    Args:
        outcomes: The rows with their measurements.
        environment: The versions and the machine that they were measured with.
    """
    rows = [
        {
            "name": outcome.row.name,
            "ratio": None if outcome.measured is None else outcome.measured.ratio,
            "target": outcome.row.target,
            "met": outcome.met,
            "compares": outcome.row.compares,
            "details": {} if outcome.measured is None else dict(outcome.measured.details),
            "error": outcome.error,
        }
        for outcome in outcomes
    ]
    return json.dumps({"environment": environment, "rows": rows}, indent=2) + "\n"
