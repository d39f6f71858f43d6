"""Pairs of balls that start close together, over the level sets of a bowl with pits."""

from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw, parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, grid, new_figure, style

_LEVELS = 13
_LOOKS = (("C0", "-", "o"), ("C1", "--", "s"))


def _add_ground(axes: Axes, ground: xr.Dataset) -> None:
    loss = ground["loss"].transpose("x1", "x0").values
    levels = np.linspace(loss.min(), loss.max(), _LEVELS)
    axes.contourf(ground["x0"], ground["x1"], loss, levels, cmap="Blues_r", alpha=0.35, zorder=0)
    axes.contour(
        ground["x0"],
        ground["x1"],
        loss,
        levels,
        colors="#8797A6",
        linewidths=0.4,
        linestyles="solid",
        zorder=1,
    )
    x0, x1 = ground["x0"].values, ground["x1"].values
    axes.set(xlim=(x0.min(), x0.max()), ylim=(x1.min(), x1.max()))


def _add_pair(axes: Axes, data: xr.Dataset) -> None:
    radius, apart = float(data.attrs["radius"]), float(data.attrs["apart"])
    for ball, (color, line, mark) in enumerate(_LOOKS):
        path = data["centre"].isel(ball=ball).transpose("time", "parameter").values
        which = ("first", "second")[ball]
        axes.plot(
            *path.T,
            color=color,
            linestyle=line,
            linewidth=1.6,
            zorder=3,
            label=f"{which} ball's centre",
            gid=f"{radius:g}/{which}",
        )
        axes.plot(
            *path[0], marker="o", markersize=4, color="white", markeredgecolor="black", zorder=4
        )
        axes.plot(
            *path[-1],
            marker=mark,
            markersize=8 if ball == 0 else 5,
            color=color,
            markeredgecolor="white",
            zorder=5 + ball,
        )
    axes.set_title(f"ρ = {radius:g}: ends {apart:.2g} apart")


@figure("ball_pits", needs=Needs(study="ball_pits"))
def draw(tree: xr.DataTree) -> Figure:
    """One panel per radius, with how far apart the two balls end.

    Args:
        tree: results of the study `ball_pits`: a group `ground` with `loss` over `x0` and `x1`,
            and groups with `centre` (ball, time, parameter) and the attributes `radius`, `apart`.

    Raises:
        ValueError: if the ground or the pairs are missing.
    """
    needs = "a group 'ground' and groups with the variable 'centre' (a study ball_pits)"
    pairs = parts(tree, "ball_pits", needs, "centre").values()
    if "ground" not in tree.children:
        raise nothing_to_draw("ball_pits", needs, tree)
    pairs = sorted(pairs, key=lambda data: float(data.attrs["radius"]))
    ground = tree["ground"].dataset
    with style():
        matplotlib.rcParams["axes.grid"] = False
        figure = new_figure(0.9 + 2.9 * ((len(pairs) + 1) // 2))
        panels = grid(figure, len(pairs), 2)
        for axes, data in zip(panels, pairs, strict=True):
            _add_ground(axes, ground)
            _add_pair(axes, data)
            axes.set(aspect="equal", xlabel="parameter 0", ylabel="parameter 1")
            axes.label_outer()
        dot: dict[str, Any] = {"marker": "o", "linestyle": "none"}
        white = {**dot, "color": "white", "markeredgecolor": "black"}
        panels[0].plot([], [], markersize=4, label="start", **white)
        panels[0].plot([], [], markersize=8, color="0.5", label="end", **dot)
        add_legend(figure, tree, panels[:1], columns=4)
    return figure
