"""How far each flow is from the midpoints of the discrete run."""

import dataclasses

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.style import add_legend, new_figure, style


def add_distance(axes: Axes, tree: xr.DataTree, *, tracking_error: bool = False) -> bool:
    """Draw the distances into a panel.

    Args:
        axes: an empty panel.
        tree: the results.
        tracking_error: whether to state each flow's tracking error in the legend.

    Returns:
        Whether there was anything to draw.
    """
    drawn = []
    for one in curves.curves(tree, "distance"):
        error = float(tree[one.name.split("/")[0]].attrs.get("tracking_error", np.nan))
        if tracking_error and np.isfinite(error):
            one = dataclasses.replace(one, label=f"{one.label} (tracking error {error:.2g})")
        drawn.append(one)
    if not drawn:
        return False
    curves.add_curves(axes, drawn)
    if curves.wants_log(drawn):
        axes.set_yscale("log", nonpositive="mask")
    curves.set_limits(axes, drawn, diverged=curves.has_diverged(tree))
    curves.label_axes(axes, tree, "distance", "distance")
    return True


def draw(tree: xr.DataTree) -> Figure:
    """The distance of each flow to the discrete midpoint at the same time, over the steps.

    Args:
        tree: results with the variable `distance` in at least one flow's group.

    Raises:
        ValueError: if no group has a finite distance.
    """
    with style():
        figure = new_figure(3.6)
        axes = figure.add_subplot()
        if not add_distance(axes, tree, tracking_error=True):
            needs = "the variable 'distance' in the group of at least one flow"
            raise curves.nothing_to_draw("distance", needs, tree)
        add_legend(figure, tree, [axes], columns=2)
    return figure
