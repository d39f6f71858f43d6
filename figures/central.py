"""Central Flow beside the optimizer that it models: what it predicts, against what happened."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from figures import curves
from figures.curves import Curve
from figures.distance import add_distance
from figures.registry import Needs, figure
from figures.sharpness import add_critical, critical_sharpness

# Share of the run that what is measured is averaged over.
_WINDOW = 0.1
# An eigenvalue that stays below this share of 2/eta has nothing to do with the oscillation.
_NEAR = 0.5
_LOG_RANGE = 5.0
_FEW_DECADES = 1e3
# Of the highest loss, the lowest that is shown.
_LOWEST = 1e-9
_MIDPOINT = {"color": "black", "linewidth": 1.2, "linestyle": (0, (1, 1.1)), "zorder": 5}
_AVERAGE = {"color": "black", "linewidth": 1.0, "zorder": 2.5}
_MODE_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))


def central(tree: xr.DataTree) -> list[str]:
    """Groups of the flows that predict variances."""
    return [name for name in curves.groups(tree) if "variances" in tree[name].dataset]


def rods(tree: xr.DataTree) -> list[str]:
    """Groups of the flows that predict rods."""
    return [name for name in curves.groups(tree) if "rod_half_lengths" in tree[name].dataset]


def parities(tree: xr.DataTree) -> list[str]:
    """Groups of the flows that predict every iterate."""
    return [name for name in curves.groups(tree) if "iterate_distance" in tree[name].dataset]


def _discrete(tree: xr.DataTree, variable: str, name: str, look: dict[str, Any]) -> list[Curve]:
    """The curves of a variable of the discrete run, one per mode if it has modes."""
    if curves.DISCRETE not in tree.children or variable not in tree[curves.DISCRETE].dataset:
        return []
    return [replace(one, label=name, look=look) for one in modes(tree, curves.DISCRETE, variable)]


def modes(tree: xr.DataTree, group: str, variable: str) -> list[Curve]:
    """The curves of a variable of a group, one per mode if it has modes."""
    data = tree[group].dataset[variable]
    if data.ndim == 1:
        found = [curves.curve(tree, group, variable)]
    else:
        dim = str(data.dims[1])
        found = [
            curves.curve(tree, group, variable, **{dim: mode}) for mode in range(data.sizes[dim])
        ]
    present = [one for one in found if one is not None]
    return [replace(one, name=f"{one.name}/{mode}") for mode, one in enumerate(present)]


def _window(tree: xr.DataTree) -> float:
    """Over how many steps to average: a tenth of the run, to one significant digit."""
    ends = [tree[name].dataset["step"].values for name in curves.groups(tree)]
    length = max((float(steps[-1] - steps[0]) for steps in ends if len(steps)), default=0.0)
    wanted = max(1.0, _WINDOW * length)
    unit = 10.0 ** np.floor(np.log10(wanted))
    return float(np.floor(wanted / unit) * unit)


def _averaged(one: Curve, window: float) -> Curve:
    """A curve's mean over all points within half a window, where that lies within the curve."""
    whole = (one.steps - window / 2 >= one.steps[0]) & (one.steps + window / 2 <= one.steps[-1])
    # A run that is shorter than the window has no better average than that of what is there.
    steps = one.steps[whole] if whole.any() else one.steps
    first = np.searchsorted(one.steps, steps - window / 2, side="left")
    last = np.searchsorted(one.steps, steps + window / 2, side="right")
    sums = np.append(0.0, np.cumsum(np.asarray(one.values, dtype=float)))
    means = (sums[last] - sums[first]) / (last - first)
    label = f"its moving average, {window:g} steps"
    look = _AVERAGE | {"linestyle": one.look.get("linestyle", "-")}
    name = f"{one.name}/average"
    return Curve(name, label, steps, means, look)


def _add(axes: Axes, tree: xr.DataTree, drawn: list[Curve], include: Sequence[float] = ()) -> None:
    curves.add_curves(axes, drawn)
    curves.set_limits(axes, drawn, diverged=curves.has_diverged(tree), include=include)


def add_losses(axes: Axes, tree: xr.DataTree, *, average: bool = True) -> bool:
    """Draw the loss of the iterates, of their midpoints, and the average that flows predict.

    Args:
        axes: an empty panel.
        tree: the results.
        average: whether to draw the moving average of the iterates' loss too.

    Returns:
        Whether there was anything to draw.
    """
    light = {"color": "0.65", "linewidth": 0.8}
    look = light if average else curves.look_of(tree, curves.DISCRETE)
    iterates = _discrete(tree, "loss", "discrete optimizer", look)
    midpoints = _discrete(tree, "midpoint_loss", "its midpoints", _MIDPOINT)
    averages = [_averaged(one, _window(tree)) for one in iterates] if average else []
    drawn = [*iterates, *averages, *midpoints]
    averaging = [*central(tree), *rods(tree), *parities(tree)]
    for group in curves.groups(tree):
        if group != curves.DISCRETE:
            variable = "predicted_loss" if group in averaging else "loss"
            one = curves.curve(tree, group, variable)
            drawn += [] if one is None else [_with_error(tree, group, one)]
    if not drawn:
        return False
    values = np.concatenate([one.values for one in drawn])
    # What there is to see is a small difference of averages, at every height of the loss.
    if values.min() > 0 and values.max() > _LOG_RANGE * values.min():
        axes.set_yscale("log")
        if values.max() < _FEW_DECADES * values.min():
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
    _add(axes, tree, drawn)
    if axes.get_yscale() == "log":
        # Far below, a loss is the rounding error of a flow that has arrived.
        low, high = axes.get_ylim()
        axes.set_ylim(bottom=max(low, _LOWEST * high))
    curves.label_axes(axes, tree, "loss", "loss")
    kinds = {"central": central, "rod": rods, "parity": parities}
    names = " or ".join(name for name, found in kinds.items() if found(tree))
    axes.set_title(f"Loss; of a {names} flow, the time average that it predicts")
    return True


def _with_error(tree: xr.DataTree, group: str, one: Curve) -> Curve:
    error = float(tree[group].attrs.get("tracking_error", np.nan))
    known = f" (tracking error {error:.2g})" if np.isfinite(error) else ""
    return replace(one, label=f"{one.label}{known}")


def add_eigenvalues(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw the eigenvalues that flows watch and those at the midpoints, with 2/eta.

    Of an adaptive method they are those of P^-1 H, and measured at the iterates. Eigenvalues that
    stay far below 2/eta are left out.

    Args:
        axes: an empty panel.
        tree: the results.

    Returns:
        Whether there was anything to draw.
    """
    drawn = [
        replace(one, label=f"_{one.label}")
        for group in central(tree)
        if "watched_eigenvalues" in tree[group].dataset
        for one in modes(tree, group, "watched_eigenvalues")
    ]
    limited = str(tree.attrs.get("critical_variable", "sharpness"))
    preconditioned = limited == "preconditioned_sharpness"
    measured = ("midpoint_eigenvalues", "midpoint_sharpness")
    for variable in ("preconditioned_eigenvalues",) if preconditioned else measured:
        found = _discrete(tree, variable, "_measured", _MIDPOINT)
        if found:
            drawn += found
            break
    _, critical = critical_sharpness(tree)
    lowest = critical.min() if critical.size else np.nan
    drawn = [one for one in drawn if not one.values.max() < _NEAR * lowest] or drawn
    if not drawn:
        return False
    _add(axes, tree, drawn, add_critical(axes, tree, limited))
    curves.label_axes(axes, tree, "eigenvalue", "watched_eigenvalues")
    matrix, where = ("P⁻¹H", "iterates") if preconditioned else ("the Hessian", "midpoints")
    axes.set_title(f"Largest eigenvalues of {matrix}; dotted, at the {where}")
    return True


def add_variances(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw the variances that the first central flow predicts, and those measured along it.

    What is measured is one sample per step, so that it is averaged over a window of steps.

    Args:
        axes: an empty panel.
        tree: the results.

    Returns:
        Whether there was anything to draw.
    """
    groups = [name for name in central(tree) if "measured_variances" in tree[name].dataset]
    if not groups:
        return False
    group = groups[0]
    drawn = []
    measured = modes(tree, group, "measured_variances")
    predicted = modes(tree, group, "variances")
    largest = max(one.values.max() for one in predicted)
    for mode, one in enumerate(predicted):
        if mode and one.values.max() <= 1e-3 * largest:
            continue  # Never critical.
        line = {"linestyle": _MODE_STYLES[min(mode, len(_MODE_STYLES) - 1)]}
        drawn.append(replace(one, label=f"_{one.label}", look=one.look | line))
        for sample in measured[mode : mode + 1]:
            average = _averaged(replace(sample, look=line), _window(tree))
            drawn.append(replace(average, label=f"_{average.label}"))
    _add(axes, tree, drawn)
    curves.label_axes(axes, tree, "variance", "variances")
    name = curves.label_of(tree, group)
    axes.set_title(f"Variances: predicted by the {name} (thick), measured along it (thin)")
    return True


def add_distances(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw the distances, of which the loss's panel names the curves.

    Args:
        axes: an empty panel.
        tree: the results.

    Returns:
        Whether there was anything to draw.
    """
    curves.label_axes(axes, tree, "distance", "distance")
    if not add_distance(axes, tree):
        return False
    later = [one.values[1:] for one in curves.curves(tree, "distance")]
    positive = np.concatenate([values[values > 0] for values in later] or [np.empty(0)])
    if axes.get_yscale() == "log" and positive.size:
        # At the start a flow is where the optimizer is, to rounding: no scale to measure by.
        axes.set_ylim(bottom=max(axes.get_ylim()[0], positive.min() / 2))
    hide_from_legend(axes)
    axes.set_title("Distance from the midpoints of the discrete optimizer")
    return True


def hide_from_legend(axes: Axes) -> None:
    """Leave a panel's lines out of the legend, as those that another panel names."""
    for line in axes.get_lines():
        line.set_label(f"_{line.get_label()}")


_PANELS = (add_losses, add_eigenvalues, add_variances, add_distances)


@figure("central", needs=Needs(flow="central"))
def draw(tree: xr.DataTree) -> Figure:
    """Loss, eigenvalues, variances and distances of Central Flow, as in arXiv 2410.24206.

    Args:
        tree: results of an experiment with a flow of kind `central`.

    Raises:
        ValueError: if there is none.
    """
    if not central(tree):
        needs = "a flow of kind 'central', whose group has the variable 'variances'"
        raise curves.nothing_to_draw("central", needs, tree)
    return curves.draw_stack(tree, 9.6, _PANELS, columns=2)
