"""Errors of the rolling ball as its radius, or its learning rate, goes to zero."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import add_legend, new_figure, style

_PANELS = {
    "radius": (
        "ρ, radius of the ball (parameter)",
        "distance from gradient flow\n(parameter)",
        "Radius to zero",
    ),
    "learning_rate": (
        "η, learning rate",
        "distance from the flow\n(parameter)",
        "Learning rate to zero",
    ),
}


def _add_errors(axes: Axes, values: np.ndarray, errors: np.ndarray, order: float) -> None:
    axes.set(xscale="log", yscale="log")
    look = {"color": "black", "linestyle": "none", "marker": "o", "markersize": 5, "zorder": 4}
    axes.plot(values, errors, label="measured", gid="errors", **look)
    nearest = np.argmin(values)
    ends = np.array([values.min() / 1.4, values.max() * 1.4])
    fit = errors[nearest] * (ends / values[nearest]) ** order
    axes.plot(ends, fit, color="C0", label="fit to the three smallest", gid="fit")
    axes.annotate(
        f"slope {order:.3f}",
        (0.05, 0.93),
        xycoords="axes fraction",
        verticalalignment="top",
        color="C0",
    )
    axes.plot(
        ends,
        0.5 * errors[nearest] * ends / values[nearest],
        color="C1",
        linestyle="--",
        label="slope 1",
        gid="one",
    )


@figure("ball_limit", needs=Needs(study="ball_limit"))
def draw(tree: xr.DataTree) -> Figure:
    """Both errors on logarithmic axes, with their fitted orders beside slope 1.

    Args:
        tree: results of the study `ball_limit`: groups `radius` and `learning_rate` with `error`
            over a coordinate of that name, and the attribute `order`.

    Raises:
        ValueError: if there is neither.
    """
    present = [name for name in _PANELS if name in tree.children]
    if not present:
        needs = "groups 'radius' or 'learning_rate' (a study ball_limit)"
        raise nothing_to_draw("ball_limit", needs, tree)
    with style():
        figure = new_figure(3.6)
        panels = list(figure.subplots(1, len(present), squeeze=False)[0])
        for axes, name in zip(panels, present, strict=True):
            data = tree[name].dataset
            order = float(data.attrs["order"])
            _add_errors(axes, data[name].values, data["error"].values, order)
            x, y, title = _PANELS[name]
            axes.set(xlabel=x, ylabel=y, title=title)
        add_legend(figure, tree, panels, columns=3)
    return figure
