"""Paths of the discrete run and of the flows over the level sets of a two-parameter potential."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from figures import curves
from figures.registry import Needs, figure
from figures.sheet import add_legend, new_figure, style

LANDSCAPE = "landscape"
"""Name of the group that holds the loss on a grid."""

_LEVELS = 14
_LOG_RANGE = 30.0
# Low ground is darker, but never so dark that a curve on it is hard to see.
_GROUND = LinearSegmentedColormap.from_list("ground", ["#C3D3E2", "#FFFFFF"])


def _levels(loss: np.ndarray) -> np.ndarray:
    """Heights of the level sets: denser towards the lowest point where the range is large.

    Args:
        loss: values on the grid, of any shape, not all nan.

    Returns:
        Increasing heights of shape (n,), n >= 2, within the values' range.
    """
    finite = loss[np.isfinite(loss)]
    lowest = finite.min()
    above = finite[finite > lowest] - lowest
    if above.size == 0:
        return np.array([lowest - 0.5, lowest + 0.5])
    near, far = np.quantile(above, [0.01, 1.0])
    if far > _LOG_RANGE * near:
        return lowest + np.geomspace(near, far, _LEVELS)
    return lowest + np.linspace(near, far, _LEVELS)


def add_level_sets(figure: Figure, axes: Axes, landscape: xr.Dataset) -> None:
    """Draw the ground and its level sets, with the heights of some of them.

    Args:
        figure: of the panel.
        axes: the panel.
        landscape: `loss` over the coordinates `x0` and `x1`.
    """
    loss = landscape["loss"].transpose("x1", "x0")
    values = np.ma.masked_invalid(np.asarray(loss.values, dtype=float))
    levels = _levels(np.asarray(loss.values, dtype=float))
    x0, x1 = landscape["x0"].values, landscape["x1"].values
    # Colour by rank, not by height: levels may span many orders of magnitude.
    ranks = np.ma.masked_invalid(np.interp(values.filled(np.nan), levels, np.arange(levels.size)))
    axes.contourf(x0, x1, ranks, np.arange(-1, levels.size), cmap=_GROUND, extend="max", zorder=0)
    lines = axes.contour(
        x0, x1, values, levels, colors="#8797A6", linewidths=0.5, linestyles="solid", zorder=1
    )
    axes.clabel(lines, levels[1::4], fmt="%.3g", fontsize=7, inline_spacing=2)


def _add_path(axes: Axes, tree: xr.DataTree, group: str) -> bool:
    """Draw one path with its start and end; say whether the group has one."""
    data = tree[group].dataset
    if "params" not in data or data.sizes.get("parameter") != 2:
        return False
    points = np.asarray(data["params"].transpose("step", "parameter").values)
    points = points[np.isfinite(points).all(axis=1)]
    if points.shape[0] == 0:
        return False
    look = curves.look_of(tree, group)
    if curves.is_discrete(tree, group):
        look |= {"marker": "o", "markersize": 2.5, "linewidth": 0.5, "alpha": 0.5}
    axes.plot(
        points[:, 0],
        points[:, 1],
        label=curves.label_of(tree, group),
        gid=f"{group}/params",
        **look,
    )
    mark: dict[str, Any] = {
        "color": look["color"],
        "markeredgecolor": "white",
        "markersize": 7,
        "zorder": 5,
    }
    axes.plot(*points[-1], linestyle="none", marker="s", gid=f"{group}/end", **mark)
    return True


def _add_start(axes: Axes, tree: xr.DataTree, groups: list[str]) -> None:
    """Mark where the paths start, once where they start together, and explain both marks."""
    starts = np.unique(
        [tree[group].dataset["params"].isel(step=0).values for group in groups], axis=0
    )
    look: dict[str, Any] = {
        "linestyle": "none",
        "color": "white",
        "markeredgecolor": "black",
        "zorder": 6,
    }
    axes.plot(*starts.T, marker="o", markersize=6, label="start", gid="start", **look)
    look["color"] = "0.5"
    axes.plot([], [], marker="s", markersize=6, label="end", **look)


@figure("paths", needs=Needs(params=True, size=2, several=True))
def draw(tree: xr.DataTree) -> Figure:
    """The iterates as connected dots and the flows as lines, over the loss's level sets.

    The frame is that of the store's grid; what leaves it is cut off.

    Args:
        tree: results of a two-parameter potential: a group `landscape` with the variable `loss`
            over the coordinates `x0` and `x1`, and `params` in at least one trajectory.

    Raises:
        ValueError: if there is no landscape or no path.
    """
    if LANDSCAPE not in tree.children or "loss" not in tree[LANDSCAPE].dataset:
        needs = "a two-parameter potential: no group 'landscape' with a variable 'loss'"
        raise curves.nothing_to_draw("paths", needs, tree)
    landscape = tree[LANDSCAPE].dataset
    with style():
        figure = new_figure(4.8)
        axes = figure.add_subplot()
        axes.grid(False)
        if np.isfinite(landscape["loss"].values).any():
            add_level_sets(figure, axes, landscape)
        drawn = [group for group in curves.groups(tree) if _add_path(axes, tree, group)]
        if not drawn:
            needs = "the variable 'params' with two parameters (save_params = true)"
            raise curves.nothing_to_draw("paths", needs, tree)
        _add_start(axes, tree, drawn)
        x0, x1 = landscape["x0"].values, landscape["x1"].values
        axes.set(xlim=(x0.min(), x0.max()), ylim=(x1.min(), x1.max()))
        axes.set_xlabel(str(landscape.attrs.get("x0_name", "x0")))
        axes.set_ylabel(str(landscape.attrs.get("x1_name", "x1")))
        add_legend(figure, tree, [axes], columns=4)
    return figure
