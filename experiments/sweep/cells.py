"""What is kept of each run of a sweep, in one form however it was run.

Cells are a dataset along `point`, the runs' numbers. Per trajectory (dimension `trajectory`) it has
the series that were measured along `step`, and numbers that sum them up; per run `status`,
`message` and `critical_sharpness`, and where every step of the discrete run is known the `period`
and `amplitude` of the cycle on which it ends.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

import flows

from ..lockstep import DISCRETE
from ..status import DIVERGED, FAILED, FINISHED
from ..summary import CONCLUSIONS

MISSING = "missing"
LONGEST_PERIOD = 16
# The share of a run, its end, over which the sharpness is averaged as it hovers.
_LATE = 0.5
_DESCRIPTIONS = {
    "status": ("1", "how the run ended"),
    "message": ("1", "what stopped it early"),
    "critical_sharpness": ("loss / parameter^2", "sharpness at which the optimizer turns unstable"),
    "period": ("steps", "period of the cycle on which the discrete run ends; 0 if there is none"),
    "amplitude": ("parameter", "largest distance of the discrete run's end from its mean"),
    "final_step": ("steps", "last step that was saved"),
    "final_loss": ("loss", "loss at the last step that was saved"),
    "final_sharpness": ("loss / parameter^2", "sharpness when it was last measured"),
    "highest_sharpness": ("loss / parameter^2", "highest sharpness measured"),
    "late_sharpness": ("loss / parameter^2", "mean sharpness over the second half of the run"),
    "tracking_error": ("1", "mean distance to the midpoints over their mean displacement"),
}


def cells_of_run(tree: xr.DataTree, number: int, series: bool) -> xr.Dataset:
    """The cells of one run, from its results.

    Args:
        tree: the results of an experiment or a study.
        number: of the run in its sweep.
        series: whether to keep what was measured along the run.
    """
    if tree.attrs.get("kind") == "study":
        data = tree[CONCLUSIONS].to_dataset() if CONCLUSIONS in tree.children else xr.Dataset()
        return _at(data, number).assign(_ending(tree.attrs))
    tracks = {
        name: node.to_dataset()
        for name, node in tree.children.items()
        if "step" in node.dataset.coords
    }
    path = tracks[DISCRETE].get("params") if DISCRETE in tracks else None
    steps = tracks[DISCRETE]["step"].values if DISCRETE in tracks else np.zeros(0)
    one = {name: _at(_series(data), number) for name, data in tracks.items()}
    found: dict[str, Any] = {"critical_sharpness": tree.attrs.get("critical_sharpness")}
    if path is not None and np.array_equal(steps, np.arange(len(steps))):
        if tree.attrs["status"] != FINISHED:
            found |= {"period": 0, "amplitude": np.nan}
        elif len(steps) >= 2 * LONGEST_PERIOD:
            period, amplitude = flows.cycle(jnp.asarray(path.values), longest=LONGEST_PERIOD)
            found |= {"period": int(period), "amplitude": float(amplitude)}
    single = {name: np.asarray([value]) for name, value in found.items() if value is not None}
    return gather_tracks(one, single, series).assign(_ending(tree.attrs))


def gather_tracks(
    tracks: Mapping[str, xr.Dataset], per_run: Mapping[str, np.ndarray], series: bool
) -> xr.Dataset:
    """Cells from the series of each trajectory.

    Args:
        tracks: by label, datasets along `point` and `step`, nan where a run had ended.
        per_run: what there is one of for each run, along `point`.
        series: whether to keep the series, besides what sums them up.
    """
    # The order of a store's groups is that of the file system.
    tracks = dict(sorted(tracks.items(), key=lambda item: (item[0] != DISCRETE, item[0])))
    numbers = next(iter(tracks.values()))["point"]
    summed = xr.concat([_summed(data) for data in tracks.values()], _labels(tracks), join="outer")
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
    """Say of each variable of ours what it is, where it does not say so itself."""
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
    """What was measured along a trajectory, but for vectors of parameters; modes are numbered."""
    kept = data.drop_vars("params", errors="ignore")
    kept = kept[[name for name in kept.data_vars if kept[name].dims[:1] == ("step",)]]
    kept = kept.drop_dims("parameter", errors="ignore").drop_attrs(deep=False)
    rest = [str(dim) for dim in kept.dims if dim != "step" and dim not in kept.coords]
    return kept.assign_coords({dim: np.arange(kept.sizes[dim]) for dim in rest})


def _summed(data: xr.Dataset) -> xr.Dataset:
    """The numbers that sum up the series of one trajectory, along `point`."""
    found: dict[str, Any] = {}
    steps = np.asarray(data["step"].values, float)
    if "loss" in data:
        loss = data["loss"].transpose("point", "step").values
        found["final_loss"] = _last(loss)
        saved = np.isfinite(loss)
        found["final_step"] = np.where(
            saved.any(axis=1), np.where(saved, steps, -np.inf).max(axis=1), np.nan
        )
    if "sharpness" in data:
        sharpness = data["sharpness"].transpose("point", "step").values.astype(float)
        found["final_sharpness"] = _last(sharpness)
        found["highest_sharpness"] = _reduced(np.fmax.reduce, sharpness)
        late = sharpness[:, steps >= (1 - _LATE) * steps[-1]] if len(steps) else sharpness
        found["late_sharpness"] = _mean(late)
    if "distance" in data and "displacement" in data:
        distance, displacement = (
            data[name].transpose("point", "step").values.astype(float)
            for name in ("distance", "displacement")
        )
        both = np.isfinite(distance) & np.isfinite(displacement)
        scale = _mean(np.where(both, displacement, np.nan))
        near = _mean(np.where(both, distance, np.nan))
        found["tracking_error"] = np.divide(
            near, scale, out=np.full_like(near, np.nan), where=scale > 0
        )
    named = {name: ("point", np.asarray(values, float)) for name, values in found.items()}
    return xr.Dataset(named, {"point": data["point"]})


def _last(values: np.ndarray) -> np.ndarray:
    """The last finite value of each row; nan if there is none."""
    finite = np.isfinite(values)
    index = values.shape[1] - 1 - np.argmax(finite[:, ::-1], axis=1)
    return np.where(finite.any(axis=1), values[np.arange(len(values)), index], np.nan)


def _reduced(reduce: Any, values: np.ndarray) -> np.ndarray:
    return reduce(values, axis=1) if values.shape[1] else np.full(len(values), np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    count = finite.sum(axis=1)
    total = np.where(finite, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


ENDED = (FINISHED, DIVERGED)
