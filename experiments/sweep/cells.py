"""What is kept of each run of a sweep, in one form however it was run.

Cells are a dataset along `point`, the runs' numbers. Per trajectory (dimension `trajectory`) it has
the series that were measured along `step`, and numbers that sum them up; per run `status`,
`message`, `discrete_status` and `critical_sharpness`, and where every step of the discrete run is
saved the `period` and `amplitude` of the cycle on which it ends. The critical sharpness is nan, and
its marker left out of figures, where there is none or a schedule makes it a curve over the steps.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Shaped

import flows
from flows.measurements.threshold import THRESHOLD

from ..config.build import precision
from ..report.summary import CONCLUSIONS
from ..report.trajectory_summary import DESCRIPTIONS, summarise
from ..runs.tracks import DISCRETE
from ..store.status import DIVERGED, FAILED, FINISHED
from ..tables import Experiment
from .grid import Point

MISSING = "missing"
LONGEST_PERIOD = 16
_DESCRIPTIONS = {
    "status": ("1", "how the run ended"),
    "message": ("1", "what stopped it early"),
    "discrete_status": ("1", "how its discrete run ended, whatever the flows did"),
    "critical_sharpness": ("loss / parameter^2", "sharpness at which the optimizer turns unstable"),
    "period": ("steps", "period of the cycle on which the discrete run ends; 0 if there is none"),
    "amplitude": ("parameter", "largest distance of the discrete run's end from its mean"),
    **DESCRIPTIONS,
}


def has_cycle(config: Experiment) -> bool:
    """True if the cycle on which a run ends is among its cells: all steps are saved, and enough."""
    return config.save_params and config.save_every == 1 and config.steps + 1 >= 2 * LONGEST_PERIOD


def cells_of_run(tree: xr.DataTree, point: Point, series: bool) -> xr.Dataset:
    """The cells of one run, from its results.

    Args:
        tree: the results of an experiment or a study.
        point: the run in its sweep.
        series: whether to keep what was measured along the run.
    """
    config = point.config
    if not isinstance(config, Experiment):
        data = tree[CONCLUSIONS].to_dataset() if CONCLUSIONS in tree.children else xr.Dataset()
        return _at(data, point.number).assign(_ending(tree.attrs))
    tracks = {
        name: node.to_dataset()
        for name, node in tree.children.items()
        if "step" in node.dataset.coords
    }
    discrete = tracks[DISCRETE]
    stopped = bool(discrete.attrs["message"])
    cycle = None
    if has_cycle(config):
        # A run that stopped may be too short to look for a cycle, and is on none.
        cycle = flows.Cycle(jnp.zeros((), int), jnp.asarray(jnp.nan))
        if not stopped and "goal" not in discrete.attrs:
            with precision(config.precision):
                cycle = flows.cycle(jnp.asarray(discrete["params"].values), longest=LONGEST_PERIOD)
    critical = tree.attrs.get("critical_sharpness", np.nan)
    single = per_run(np.array([stopped]), np.array([critical]), cycle)
    one = {name: _at(_series(data), point.number) for name, data in tracks.items()}
    return gather_tracks(one, single, config.steps, series).assign(_ending(tree.attrs))


def per_run(
    stopped: Bool[np.ndarray, " point"],
    critical_sharpness: Float[np.ndarray, " point"],
    cycle: flows.Cycle | None,
) -> dict[str, Shaped[np.ndarray, " point"]]:
    """What there is one number or word of for each run, from its discrete trajectory.

    Args:
        stopped: whether it stopped early.
        critical_sharpness: of its optimizer; nan or infinite where there is none.
        cycle: the cycle on which its end lies, if that is known.
    """
    found = {
        "critical_sharpness": np.where(np.isfinite(critical_sharpness), critical_sharpness, np.nan),
        "discrete_status": np.array([DIVERGED if one else FINISHED for one in stopped], object),
    }
    if cycle is not None:
        found["period"] = np.where(stopped, 0, cycle.period)
        found["amplitude"] = np.where(stopped, np.nan, cycle.amplitude)
    return found


def gather_tracks(
    tracks: Mapping[str, xr.Dataset],
    per_run: Mapping[str, np.ndarray],
    steps: int,
    series: bool,
) -> xr.Dataset:
    """Cells from the series of each trajectory.

    Args:
        tracks: by label, datasets along `point` and `step`, nan where a run had ended.
        per_run: what there is one of for each run, along `point`.
        steps: of each run, if nothing stops it.
        series: whether to keep the series, besides what sums them up.
    """
    # The groups of a store are in the order of the file system.
    tracks = dict(sorted(tracks.items(), key=lambda item: (item[0] != DISCRETE, item[0])))
    numbers = next(iter(tracks.values()))["point"]
    summed = xr.concat(
        [
            xr.Dataset(
                {name: ("point", values) for name, values in summarise(data, float(steps)).items()},
                {"point": numbers},
            )
            for data in tracks.values()
        ],
        _labels(tracks),
        join="outer",
    )
    cells = summed.transpose("point", "trajectory")
    if series:
        whole = xr.concat(list(tracks.values()), _labels(tracks), join="outer")
        cells = cells.merge(whole.transpose("point", "trajectory", "step", ...))
    cells = cells.assign({name: ("point", values) for name, values in per_run.items()})
    return describe(cells.assign_coords(point=numbers))


def failed_cells(number: int, message: str) -> xr.Dataset:
    """The cells of a run that could not be run, or not to its end."""
    return _at(xr.Dataset(), number).assign(_ending({"status": FAILED, "message": message}))


def describe(cells: xr.Dataset) -> xr.Dataset:
    """Add units and a description to each variable that is not a measured series."""
    for name, (units, description) in _DESCRIPTIONS.items():
        if name in cells:
            cells[name].attrs = {"units": units, "long_name": description}
    return cells


def _ending(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    texts = {"status": attributes.get("status", MISSING), "message": attributes.get("message", "")}
    return {name: ("point", np.array([str(text)], object)) for name, text in texts.items()}


def _at(data: xr.Dataset, number: int) -> xr.Dataset:
    return (
        data.expand_dims(point=[number])
        if data.variables
        else xr.Dataset(coords={"point": [number]})
    )


def _labels(tracks: Mapping[str, xr.Dataset]) -> xr.DataArray:
    described = {"units": "1", "long_name": "optimizer, or label of the flow"}
    return xr.DataArray(np.array(list(tracks), object), dims="trajectory", attrs=described).rename(
        "trajectory"
    )


def _series(data: xr.Dataset) -> xr.Dataset:
    """The series measured along a trajectory, without vectors of parameters; modes are numbered."""
    # In a sweep the critical sharpness is one number per run.
    kept = data.drop_vars(["params", *THRESHOLD], errors="ignore")
    kept = kept[[name for name in kept.data_vars if kept[name].dims[:1] == ("step",)]]
    kept = kept.drop_dims("parameter", errors="ignore").drop_attrs(deep=False)
    rest = [str(dim) for dim in kept.dims if dim != "step" and dim not in kept.coords]
    return kept.assign_coords({dim: np.arange(kept.sizes[dim]) for dim in rest})
