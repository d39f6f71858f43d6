"""`python -m benchmarks [NAME...] [--json FILE]`: measure and print the table.

A missed target is shown in the table, but does not change the exit code, because timings vary on a
busy machine: it is 0 unless a row raised an error (then 1) or the arguments are wrong (then 2).
"""

import argparse
import difflib
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from . import (  # noqa: F401  (each import registers its rows)
    central,
    compiling,
    dims,
    eigenpairs,
    gradients,
    imports,
    loops,
    overhead,
    parity,
    rod,
    runs,
)
from .report import as_json, table, wide_console
from .rows import ROWS, run_row


def _chosen(parser: argparse.ArgumentParser, names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in ROWS:
            close = difflib.get_close_matches(name, ROWS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            parser.error(f"no row is called {name!r}{hint} Rows: {', '.join(ROWS)}.")
    return list(names) or list(ROWS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows that the arguments name, all by default, and return the exit code.

    Args:
        arguments: The words of the command line; those of `sys.argv` if not given.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure what things cost and print it as a table."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows: {', '.join(ROWS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    options = parser.parse_args(arguments)
    console = wide_console()
    outcomes = []
    for name in _chosen(parser, options.names):
        with console.status(f"measuring {name}"):
            outcomes.append(run_row(ROWS[name]))
    console.print(table(outcomes))
    if options.json is not None:
        environment = {
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
            "python": platform.python_version(),
            "cores": str(os.cpu_count()),
        }
        options.json.write_text(as_json(outcomes, environment))
    return int(any(outcome.error is not None for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
