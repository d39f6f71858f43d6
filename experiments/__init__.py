"""Experiments: a validated config, a run beside its flows, and the store it leaves behind.

Nothing is imported before it is used: `eosflows list` needs none of it, a config error neither jax
nor xarray.

Example:
    >>> from experiments import load_config
    >>> load_config("central-valley", ["steps=100"]).steps
    100
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config.builtins import builtin_names
    from .config.loader import load_config, load_run_config
    from .report.exports import export
    from .runs.own import tree_of
    from .runs.runner import Result, branch, run
    from .store.store import load
    from .sweep import load_sweep, run_sweep
    from .system.errors import ConfigError, DirectoryError, UserError
    from .tables import Experiment
    from .tables.figures import Needs
    from .tables.plugins import import_file
    from .tables.registration import (
        register_figure,
        register_flow,
        register_measurement,
        register_optimizer,
        register_potential,
        register_schedule,
    )

__all__ = [
    "ConfigError",
    "DirectoryError",
    "Experiment",
    "Needs",
    "Result",
    "UserError",
    "branch",
    "builtin_names",
    "export",
    "import_file",
    "load",
    "load_config",
    "load_run_config",
    "load_sweep",
    "register_figure",
    "register_flow",
    "register_measurement",
    "register_optimizer",
    "register_potential",
    "register_schedule",
    "run",
    "run_sweep",
    "tree_of",
]

_HOMES = {
    "config.builtins": ("builtin_names",),
    "config.loader": ("load_config", "load_run_config"),
    "report.exports": ("export",),
    "runs.own": ("tree_of",),
    "runs.runner": ("Result", "branch", "run"),
    "store.store": ("load",),
    "sweep": ("load_sweep", "run_sweep"),
    "system.errors": ("ConfigError", "DirectoryError", "UserError"),
    "tables": ("Experiment",),
    "tables.figures": ("Needs",),
    "tables.plugins": ("import_file",),
    "tables.registration": (
        "register_figure",
        "register_flow",
        "register_measurement",
        "register_optimizer",
        "register_potential",
        "register_schedule",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
