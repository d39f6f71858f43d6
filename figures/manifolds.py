"""Descent on a manifold and its flow: loss, Riemannian sharpness, constraints and distance."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.distance import add_distance
from figures.loss import add_loss
from figures.registry import Needs, figure
from figures.sharpness import add_critical

_SHARPNESS, _DRIFT = "riemannian_sharpness", "constraint_drift"


def _add_sharpness(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw the Riemannian sharpness and the value at which the method turns unstable."""
    drawn = curves.curves(tree, _SHARPNESS)
    if drawn:
        include = add_critical(axes, tree, _SHARPNESS)
        curves.add_panel(axes, tree, _SHARPNESS, drawn, log=False, include=include)
        curves.label_axes(axes, tree, "Riemannian\nsharpness", _SHARPNESS)
    return bool(drawn)


def _add_drift(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw by how much the parameters miss the equations of their manifold."""
    drawn = curves.curves(tree, _DRIFT)
    if drawn:
        curves.add_panel(axes, tree, _DRIFT, drawn, log=False)
        curves.label_axes(axes, tree, "constraint\ndrift", _DRIFT)
    return bool(drawn)


@figure("manifolds", needs=Needs(curvature=True))
def draw(tree: xr.DataTree) -> Figure:
    """Loss, Riemannian sharpness with its threshold, constraint drift and distance.

    Args:
        tree: results of an experiment with an optimizer on a manifold and `[curvature]`.

    Raises:
        ValueError: if there is no Riemannian sharpness.
    """
    if not curves.has(tree, _SHARPNESS):
        needs = f"an optimizer on a manifold and [curvature], for {_SHARPNESS!r}"
        raise curves.nothing_to_draw("manifolds", needs, tree)
    panels = {"loss": add_loss, _SHARPNESS: _add_sharpness, _DRIFT: _add_drift}
    if curves.has(tree, "distance"):
        panels["distance"] = add_distance
    present = [add for name, add in panels.items() if curves.has(tree, name)]
    return curves.draw_stack(tree, 0.9 + 1.8 * len(present), present)
