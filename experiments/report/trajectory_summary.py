"""Trajectories in a few numbers each, computed from the series measured along them."""

import numpy as np
import xarray as xr
from jaxtyping import Float

# The last part of a run, over which the sharpness is averaged as it hovers at the threshold.
_LATE = 0.5
DESCRIPTIONS = {
    "final_step": ("steps", "last step that was saved"),
    "final_loss": ("loss", "loss at the last step that was saved"),
    "final_sharpness": ("loss / parameter^2", "sharpness when it was last measured"),
    "max_sharpness": ("loss / parameter^2", "highest sharpness measured"),
    "late_sharpness": ("loss / parameter^2", "mean sharpness over the second half of the run"),
    "tracking_error": ("1", "mean distance to the midpoints over their mean displacement"),
    "iterate_error": ("1", "mean distance to the iterates over their mean displacement"),
}
"""Units and meaning of each number."""
# Which two series each error is made of.
_ERRORS = {
    "tracking_error": ("distance", "displacement"),
    "iterate_error": ("iterate_distance", "iterate_displacement"),
}


def summarise(data: xr.Dataset, steps: float) -> dict[str, Float[np.ndarray, " point"]]:
    """Sum up the series of one trajectory of each of several runs.

    The tracking error is mean_t |centre - m_t| / mean_t |m_t - m_0| over the steps that have both:
    0 for a perfect model, 1 for one no better than standing still, nan if the optimizer does not
    move. The iterate error is the same of the iterates and their predictions.

    Args:
        data: `loss`, `sharpness`, `distance` with `displacement`, and `iterate_distance` with
            `iterate_displacement`, those of them that were measured, along `point` and `step`; not
            finite where a run has none.
        steps: of a whole run, whose second half counts as late, in the unit of `step`.

    Returns:
        The numbers of `DESCRIPTIONS` that follow from what there is, along `point`, each nan where
        it is not known.
    """
    found: dict[str, np.ndarray] = {}
    times = np.asarray(data["step"].values, float)
    if "loss" in data:
        loss = _finite(data, "loss")
        found["final_step"] = _last(np.where(np.isfinite(loss), times, np.nan))
        found["final_loss"] = _last(loss)
    if "sharpness" in data:
        sharpness = _finite(data, "sharpness")
        found["final_sharpness"] = _last(sharpness)
        found["max_sharpness"] = np.fmax.reduce(sharpness, axis=1, initial=np.nan)
        found["late_sharpness"] = _mean(sharpness[:, times >= (1 - _LATE) * steps])
    for error, (near, far) in _ERRORS.items():
        if near in data and far in data:
            distance, displacement = _finite(data, near), _finite(data, far)
            both = np.isfinite(distance) & np.isfinite(displacement)
            mean, scale = (_mean(np.where(both, one, np.nan)) for one in (distance, displacement))
            found[error] = np.divide(mean, scale, out=np.full_like(mean, np.nan), where=scale > 0)
    return found


def _finite(data: xr.Dataset, name: str) -> Float[np.ndarray, "point step"]:
    """A series, nan where it is not finite."""
    values = data[name].transpose("point", "step").values.astype(float)
    return np.where(np.isfinite(values), values, np.nan)


def _last(values: Float[np.ndarray, "point step"]) -> Float[np.ndarray, " point"]:
    """The last value of each row that is not nan; nan if there is none."""
    # In front of each row, so that none is empty.
    values = np.concatenate([np.full((len(values), 1), np.nan), values], axis=1)
    index = values.shape[1] - 1 - np.argmax(~np.isnan(values)[:, ::-1], axis=1)
    return np.where(np.isnan(values).all(axis=1), np.nan, values[np.arange(len(values)), index])


def _mean(values: Float[np.ndarray, "point step"]) -> Float[np.ndarray, " point"]:
    """The mean of each row without its nan entries; nan if there are no others."""
    count = (~np.isnan(values)).sum(axis=1)
    total = np.nansum(values, axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
