"""Experiments: a validated config, a run beside its flows, and the store it leaves behind."""

from typing import TYPE_CHECKING, Any

from .config.loader import builtin_names, load_config, load_run_config
from .system.errors import ConfigError, DirectoryError, UserError
from .tables import Experiment

if TYPE_CHECKING:
    from .report.exports import export
    from .runs.runner import Result, run
    from .store.store import load
    from .sweep import load_sweep, run_sweep

__all__ = [
    "ConfigError",
    "DirectoryError",
    "Experiment",
    "Result",
    "UserError",
    "builtin_names",
    "export",
    "load",
    "load_config",
    "load_run_config",
    "load_sweep",
    "run",
    "run_sweep",
]

_LAZY = {
    "Result": "runs.runner",
    "export": "report.exports",
    "load": "store.store",
    "load_sweep": "sweep",
    "run": "runs.runner",
    "run_sweep": "sweep",
}


def __getattr__(name: str) -> Any:
    # jax and xarray take seconds to import; `eosflows list` and config errors do without them.
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
