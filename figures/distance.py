"""How far each flow is from the midpoints of the discrete run."""

import dataclasses
import functools

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.registry import Needs, figure


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
    curves.add_panel(axes, tree, "distance", drawn)
    curves.add_starts(axes, tree)
    return True


@figure("distance", needs=Needs(several=True))
def draw(tree: xr.DataTree) -> Figure:
    """The distance of each flow to the discrete midpoint at the same time, over the steps.

    Args:
        tree: results with the variable `distance` in at least one flow's group.

    Raises:
        ValueError: if no group has a finite distance.
    """
    needs = "the variable 'distance' in the group of at least one flow"
    add = functools.partial(add_distance, tracking_error=True)
    return curves.draw_panel(tree, "distance", needs, add, columns=2)
