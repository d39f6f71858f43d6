"""Send the results of a run to an experiment tracker: trackio or Weights & Biases."""

import importlib
import importlib.util
import itertools
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from ..run_directory.directory import CONFIG
from ..store.store import RESULTS_FOLDER, load
from ..system.errors import UserError

Tracker = Literal["trackio", "wandb"]

# Both are called alike: init(project=, name=, config=), log(metrics, step=), finish().
TRACKERS = get_args(Tracker)
_MOST_COLUMNS = 32


def export_to_tracker(
    directory: str | Path, to: Tracker, *, project: str = "eosflows"
) -> tuple[str, ...]:
    """Log each trajectory of a finished or partial run as a run of a tracker.

    A run `DIR/GROUP` has the config and the group's attributes for its config. Each saved step is
    logged with the numbers that were stored for it; a variable with another dimension is logged by
    entry, `eigenvalues[0]`, up to 32 entries. Numbers that are not finite are left out: a step at
    which nothing else was stored is not logged. Along a flow with a time of its own the saves are
    counted, and `time` is logged.

    Where it goes is the tracker's own business: its login, its environment variables. To export
    again makes new runs of the same names.

    Args:
        directory: a run directory, or the `results.zarr` in it.
        to: the tracker, whose package must be installed.
        project: the project in the tracker.

    Returns:
        The names of the tracker's runs.

    Raises:
        ValueError: if there is no such tracker.
        UserError: if its package is not installed, or the results have no trajectory.
        DirectoryError: if there are no readable results.
    """
    if to not in TRACKERS:
        raise ValueError(f"to must be one of {', '.join(TRACKERS)}; got {to!r}.")
    if importlib.util.find_spec(to) is None:
        raise UserError(f"{to} is not installed: pip install {to}")
    directory = Path(directory)
    tree = load(directory)
    root = directory.parent if directory.name == RESULTS_FOLDER else directory
    groups = [
        (f"{root.name or root.resolve().name}/{node.path.strip('/')}", dataset)
        for node in tree.subtree
        if (dataset := node.to_dataset(inherit=False)).sizes.get("step")
    ]
    if not groups:
        raise UserError(f"{directory}: no trajectory in it has steps to log")
    tracker = importlib.import_module(to)
    for name, dataset in groups:
        config = {"config": _config(root), "attributes": _plain(dict(dataset.attrs))}
        tracker.init(project=project, name=name, config=config)
        try:
            for step, metrics in _rows(dataset):
                tracker.log(metrics, step=step)
        finally:
            tracker.finish()
    return tuple(name for name, _ in groups)


def _config(root: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((root / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Results may be read without the config that made them.
        return {}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _rows(dataset: xr.Dataset) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield each step, as a whole number, and its finite numbers by name."""
    columns = dict(_columns(dataset))
    steps = np.asarray(dataset["step"].values if "step" in dataset.coords else [])
    counted = np.issubdtype(steps.dtype, np.integer) and len(steps) == dataset.sizes["step"]
    if not counted and len(steps):
        columns["time"] = steps
    for row in range(dataset.sizes["step"]):
        numbers = {name: float(values[row]) for name, values in columns.items()}
        finite = {name: number for name, number in numbers.items() if math.isfinite(number)}
        if finite:
            yield int(steps[row]) if counted else row, finite


def _columns(dataset: xr.Dataset) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the numbers along the steps, one column for each entry of other dimensions."""
    for name, variable in dataset.data_vars.items():
        if "step" not in variable.dims or variable.dtype.kind not in "fiub":
            continue
        values = np.asarray(variable.transpose("step", ...).values)
        entries = itertools.product(*(range(size) for size in values.shape[1:]))
        if math.prod(values.shape[1:]) > _MOST_COLUMNS:
            continue
        for entry in entries:
            yield f"{name}{''.join(f'[{i}]' for i in entry)}", values[(slice(None), *entry)]
