"""Checks of the library against what theory says about sharpness thresholds and two-cycles.

Each module registers its checks when it is imported; `checks.CHECKS` then has them all.
"""

from . import (  # noqa: F401  (each import registers the file's checks)
    adaptive,
    edge,
    glass,
    manifolds,
    sharpness_aware,
    thresholds,
    two_cycles,
)
from .checks import CHECKS, Check, Measured, Outcome, run_check
from .report import records, table

__all__ = ["CHECKS", "Check", "Measured", "Outcome", "records", "run_check", "table"]
