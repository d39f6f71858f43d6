"""The sharpness along the discrete run and along each flow, with the critical value 2/eta."""

import functools
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.registry import Needs, figure

# Up to so many times its lowest value a critical sharpness that varies is labelled, and shown.
_LABELLED = 3.0


def further_eigenvalues(
    tree: xr.DataTree,
    variable: str = "eigenvalues",
    dimension: str = "mode",
    words: str = "further eigenvalues",
) -> list[curves.Curve]:
    """The discrete run's second and later eigenvalues, as one legend entry.

    Args:
        tree: the results.
        variable: the variable that holds the eigenvalues.
        dimension: its second dimension.
        words: what they are, for the legend.
    """
    if curves.DISCRETE not in tree.children:
        return []
    modes = range(1, tree[curves.DISCRETE].dataset.sizes.get(dimension, 0))
    found = (curves.curve(tree, curves.DISCRETE, variable, **{dimension: mode}) for mode in modes)
    present = [one for one in found if one is not None]
    look = {"color": "0.45", "linewidth": 0.8, "linestyle": (0, (3, 1.5)), "zorder": 1}
    return [
        curves.Curve(
            f"{one.name}/{mode}",
            f"{one.label}, {words}" if mode == 1 else f"_{mode}",
            one.steps,
            one.values,
            look,
        )
        for mode, one in enumerate(present, start=1)
    ]


def add_sharpness(axes: Axes, tree: xr.DataTree, *, eigenvalues: bool = False) -> bool:
    """Draw the sharpness curves and the threshold, 2/eta, into a panel.

    Args:
        axes: an empty panel.
        tree: the results; the threshold is left out where it is not known.
        eigenvalues: whether to add the discrete run's further eigenvalues.

    Returns:
        Whether there was anything to draw.
    """
    drawn = curves.curves(tree, "sharpness")
    if eigenvalues:
        drawn = drawn + further_eigenvalues(tree)
    if not drawn:
        return False
    include = add_critical(axes, tree)
    curves.add_panel(axes, tree, "sharpness", drawn, log=False, include=include)
    return True


def add_preconditioned(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw the preconditioned sharpness of an adaptive method and its flows, with its threshold.

    Args:
        axes: an empty panel.
        tree: the results.

    Returns:
        Whether there was anything to draw.
    """
    name = "preconditioned_sharpness"
    drawn = curves.curves(tree, name)
    if drawn:
        include = add_critical(axes, tree, name)
        curves.add_panel(axes, tree, name, drawn, log=False, include=include)
        curves.label_axes(axes, tree, "preconditioned\nsharpness", name)
    return bool(drawn)


def add_critical(axes: Axes, tree: xr.DataTree, variable: str = "sharpness") -> list[float]:
    """Draw the optimizer's critical sharpness (2/eta), if that is known.

    It is a line across the panel, or a curve over the steps where a schedule or the gradient moves
    it.

    Args:
        axes: the panel.
        tree: the results.
        variable: what the panel draws; nothing, if the critical value is one of another variable.

    Returns:
        The values that the panel should show: the critical sharpness, of a curve the lowest and
        the labelled one; or none.
    """
    shown: list[float] = []
    if curves.SEVERAL not in tree.attrs:
        return _add_one(axes, tree, critical_sharpness(tree), "black", variable)
    for group in filter(lambda name: curves.is_discrete(tree, name), curves.groups(tree)):
        of_run = xr.Dataset(attrs=tree[group].attrs["run_attributes"])
        color = curves.look_of(tree, group)["color"]
        # Equal thresholds are drawn and named once.
        values = _values(tree, group, of_run)
        if values[0].size or float(values[1][0] if values[1].size else np.nan) not in shown:
            shown += _add_one(axes, of_run, values, color, variable)
    return shown


def _add_one(
    axes: Axes,
    tree: xr.DataTree | xr.Dataset,
    critical: tuple[np.ndarray, np.ndarray],
    color: str,
    variable: str,
) -> list[float]:
    """Draw the critical sharpness of one run, of which only the attributes are read."""
    steps, values = critical
    if tree.attrs.get("critical_variable", "sharpness") != variable or not values.size:
        return []
    look: dict[str, Any] = {"color": color, "linewidth": 1.0, "linestyle": (0, (4, 3))}
    if steps.size:
        axes.plot(steps, values, label="_critical", zorder=1.5, gid="critical", **look)
    else:
        axes.axhline(float(values[0]), zorder=1.5, gid="critical", **look)
    # Where a learning rate ends near zero the threshold leaves the panel: its name stays inside.
    last = int(np.flatnonzero(values <= _LABELLED * values.min())[-1])
    # Beside the frame, where no curve can run through it.
    at_end = last == len(values) - 1
    axes.annotate(
        curves.critical_label(tree),
        (1.0 if at_end else float(steps[last]), float(values[last])),
        xycoords=("axes fraction" if at_end else "data", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        verticalalignment="center",
        color=color,
    )
    return sorted({float(values.min()), float(values[last])})


def critical_sharpness(tree: xr.DataTree) -> tuple[np.ndarray, np.ndarray]:
    """The steps and the values of the critical sharpness, where it is finite.

    Args:
        tree: the results.

    Returns:
        The curve that the discrete run has with a schedule, or of SAM; otherwise no steps, and one
        value or none.
    """
    return _values(tree, curves.DISCRETE, tree)


def _values(
    tree: xr.DataTree, group: str, of_run: xr.DataTree | xr.Dataset
) -> tuple[np.ndarray, np.ndarray]:
    name = "critical_sharpness"
    if group in tree.children:
        found = curves.curve(tree, group, name)
        if found is not None:
            return found.steps, found.values
    critical = np.asarray([float(of_run.attrs.get(name, np.nan))])
    return np.empty(0), critical[np.isfinite(critical)]


@figure("sharpness", needs=Needs(curvature=True, several=True))
def draw(tree: xr.DataTree) -> Figure:
    """The Hessian's largest eigenvalue over the steps, with the critical sharpness 2/eta.

    That is a curve where a schedule moves the learning rate, and for SAM, where it depends on the
    gradient.

    The discrete run's further eigenvalues are drawn thin where the store has them.

    Args:
        tree: results with the variable `sharpness` in at least one group.

    Raises:
        ValueError: if no group has a finite sharpness.
    """
    needs = "the variable 'sharpness' in at least one group (set [curvature] in the config)"
    add = functools.partial(add_sharpness, eigenvalues=True)
    return curves.draw_panel(tree, "sharpness", needs, add)
