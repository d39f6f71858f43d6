"""The sharpness along the discrete run and along each flow, with the critical value 2/eta."""

import functools

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.registry import Needs, figure


def _further_eigenvalues(tree: xr.DataTree) -> list[curves.Curve]:
    """The discrete run's second and later eigenvalues, as one legend entry."""
    if curves.DISCRETE not in tree.children:
        return []
    data = tree[curves.DISCRETE].dataset
    modes = range(1, data.sizes.get("mode", 0))
    found = (curves.curve(tree, curves.DISCRETE, "eigenvalues", mode=mode) for mode in modes)
    present = [one for one in found if one is not None]
    look = {"color": "0.45", "linewidth": 0.8, "linestyle": (0, (3, 1.5)), "zorder": 1}
    return [
        curves.Curve(
            f"{one.name}/{mode}",
            f"{one.label}, further eigenvalues" if mode == 1 else f"_{mode}",
            one.steps,
            one.values,
            look,
        )
        for mode, one in enumerate(present, start=1)
    ]


def add_sharpness(axes: Axes, tree: xr.DataTree, *, eigenvalues: bool = False) -> bool:
    """Draw the sharpness curves and the line at 2/eta into a panel.

    Args:
        axes: an empty panel.
        tree: the results; the line is left out where `critical_sharpness` is not known.
        eigenvalues: whether to add the discrete run's further eigenvalues.

    Returns:
        Whether there was anything to draw.
    """
    drawn = curves.curves(tree, "sharpness")
    if eigenvalues:
        drawn = drawn + _further_eigenvalues(tree)
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
    """Draw the line at the optimizer's critical sharpness (2/eta), if that is known.

    Args:
        axes: the panel.
        tree: the results.
        variable: what the panel draws; no line, if the critical value is one of another variable.

    Returns:
        The values that the panel should show: the critical sharpness, or none.
    """
    critical = float(tree.attrs.get("critical_sharpness", np.nan))
    if tree.attrs.get("critical_variable", "sharpness") != variable:
        return []
    include = [critical] if np.isfinite(critical) else []
    for value in include:
        axes.axhline(
            value, color="black", linewidth=1.0, linestyle=(0, (4, 3)), zorder=1.5, gid="critical"
        )
        # Beside the frame, where no curve can run through it.
        axes.annotate(
            curves.critical_label(tree),
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            verticalalignment="center",
        )
    return include


@figure("sharpness", needs=Needs(curvature=True))
def draw(tree: xr.DataTree) -> Figure:
    """The Hessian's largest eigenvalue over the steps, with the critical sharpness 2/eta.

    The discrete run's further eigenvalues are drawn thin where the store has them.

    Args:
        tree: results with the variable `sharpness` in at least one group.

    Raises:
        ValueError: if no group has a finite sharpness.
    """
    needs = "the variable 'sharpness' in at least one group (set [curvature] in the config)"
    add = functools.partial(add_sharpness, eigenvalues=True)
    return curves.draw_panel(tree, "sharpness", needs, add)
