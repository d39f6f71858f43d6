"""The numbers that are taken of a flow's run, beside the discrete run that it models."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

import flows

from ..compare.distances import row_norms

MEASURES = {
    "tracking_error": (
        "1",
        "mean distance of the flow's centre from the midpoint that it models, over the midpoints' "
        "mean displacement",
    ),
    "iterate_error": (
        "1",
        "mean distance of the predicted iterate from the iterate, over the iterates' mean "
        "displacement",
    ),
    "loss_error": (
        "1",
        "mean |predicted loss - average of the discrete loss|, over the average's mean change",
    ),
    "onset_error": (
        "optimizer steps",
        "first step at which the oscillation exceeds a tenth of the discrete maximum, flow minus "
        "discrete",
    ),
    "relative_onset_error": ("1", "onset error over the steps to the discrete onset"),
    "peak_error": ("1", "relative error of the oscillation's largest length"),
    "gradients_per_step": ("1", "gradient-equivalents per optimizer step"),
    "compile_seconds": ("s", "time to compile; none where an earlier case has the same program"),
}
"""Unit and description of each measure, by name."""

# Of the largest half-difference of the discrete run, above which an oscillation has begun.
_ONSET = 0.1


def measures(
    flow: flows.Trajectory,
    discrete: flows.Trajectory,
    amplitude: np.ndarray | None,
    compile_seconds: float,
) -> dict[str, float]:
    """Return the value of each of `MEASURES`; nan where a flow predicts no such thing.

    Errors count from step 1 on, or from the flow's first step b if it is later: at step 0 there is
    no midpoint, and in its place would be w_0 itself, half an oscillation away from the centre.

    The average of the discrete loss is over two steps, around the times that the flow's centre
    models: (L_{t-1} + 2 L_t + L_{t+1}) / 4 for three-point midpoints, (L_t + L_{t+1}) / 2 for
    two-point ones. With A_t for it and P_t for the flow's prediction the error is
    mean_t |P_t - A_t| / mean_t |A_t - A_b|, over the saved steps t >= b that have both neighbours.

    The discrete oscillation has the length |w_{t-1} - 2 w_t + w_{t+1}| / 4, from step 1 on. Where
    it is above its onset at the first of these steps there is no onset.

    Args:
        flow: The flow's run, saved at every step from some step b on, to the end.
        discrete: The optimizer's, saved at every step from 0 on, with its loss.
        amplitude: The length of the oscillation that the flow predicts at its saves, (T,); None if
            it predicts none.
        compile_seconds: What the flow's run took to compile.
    """
    spent = float(flow.stats["gradient_equivalents"]) / (len(flow.steps) - 1)
    if flow.steps[0] == 0:
        flow, amplitude = _after_start(flow), None if amplitude is None else amplitude[1:]
    first = int(flow.steps[0])
    predicts = "half_difference" in flow.observables
    return {
        "tracking_error": float(flows.tracking_error(flow, discrete)),
        "iterate_error": float(flows.iterate_error(flow, discrete)) if predicts else np.nan,
        "loss_error": _loss_error(flow, discrete),
        **_oscillation_errors(first, amplitude, half_differences(discrete)),
        "gradients_per_step": spent,
        "compile_seconds": compile_seconds,
    }


def half_differences(discrete: flows.Trajectory) -> np.ndarray:
    """Return |w_{t-1} - 2 w_t + w_{t+1}| / 4 at each step (T,); nan at 0, which has no w_-1."""
    midpoints = discrete.midpoints("three_point")
    lengths = row_norms(jax.tree.map(jnp.subtract, midpoints, discrete.params))
    return np.where(np.asarray(discrete.steps) == 0, np.nan, np.asarray(lengths))


def onset(lengths: np.ndarray, largest: float) -> float:
    """Return where lengths first exceed a tenth of the largest discrete one; nan if nowhere."""
    above = lengths > _ONSET * largest
    return float(np.argmax(above)) if above.any() else np.nan


def _after_start(flow: flows.Trajectory) -> flows.Trajectory:
    """Return a run without its first save."""
    steps, params, observables = jax.tree.map(
        lambda x: x[1:], (flow.steps, flow.params, flow.observables)
    )
    return dataclasses.replace(flow, steps=steps, params=params, observables=observables)


def _loss_error(flow: flows.Trajectory, discrete: flows.Trajectory) -> float:
    loss = np.asarray(discrete.observables["loss"])
    steps = np.asarray(flow.steps)
    inside = steps < len(loss) - 1
    steps, predicted = steps[inside], np.asarray(flow.observables["predicted_loss"])[inside]
    if flow.midpoint == "two_point":
        average = (loss[steps] + loss[steps + 1]) / 2
    else:
        average = (loss[steps - 1] + 2 * loss[steps] + loss[steps + 1]) / 4
    return float(np.abs(predicted - average).mean() / np.abs(average - average[0]).mean())


def _oscillation_errors(
    first: int, amplitude: np.ndarray | None, discrete: np.ndarray
) -> Mapping[str, float]:
    discrete = discrete[first:]
    largest = float(discrete.max())
    names = ("onset_error", "relative_onset_error", "peak_error")
    if amplitude is None or not largest > 0:
        return dict.fromkeys(names, np.nan)
    begins = onset(discrete, largest)
    delay = onset(amplitude, largest) - begins if begins > 0 else np.nan
    relative = delay / begins if begins > 0 else np.nan
    return dict(zip(names, (delay, relative, float(amplitude.max()) / largest - 1), strict=True))
