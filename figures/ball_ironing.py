"""A rough line, what balls of several radii see of it, and how their centres roll."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style

_LINE_STYLES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)))
_MARKS = ("o", "s", "D", "^", "v", "P")


def _add_radius(axes: Axes, data: xr.Dataset, color: str, position: int) -> None:
    """Draw one ironed landscape with its minima, the path of the ball, and where it ends."""
    x, height = data["x"].values, data["height"].values
    radius = float(data.attrs["radius"])
    rough = radius == 0
    axes.plot(
        x,
        height,
        color="0.55" if rough else color,
        linewidth=0.5 if rough else 1.0,
        linestyle="-" if rough else _LINE_STYLES[position % len(_LINE_STYLES)],
        label="landscape" if rough else f"ironed, ρ = {radius:g}",
        gid=f"height-{radius:g}",
        zorder=2,
    )
    if not rough and data.sizes["minimum"] <= 40:
        axes.plot(
            data["minimum_x"],
            data["minimum"],
            linestyle="none",
            marker="o",
            markersize=2.6,
            color=color,
            gid=f"minima-{radius:g}",
            zorder=3,
        )
    axes.plot(
        data["path_x"],
        data["path_height"],
        color=color,
        linewidth=2.6,
        alpha=0.75,
        solid_capstyle="round",
        gid=f"path-{radius:g}",
        zorder=4,
    )
    axes.plot(
        data["path_x"].values[-1:],
        data["path_height"].values[-1:],
        linestyle="none",
        marker=_MARKS[position % len(_MARKS)],
        markersize=7,
        color=color,
        markeredgecolor="white",
        # The others have the colour of their landscape, which the legend names.
        label="ball of radius 0, at rest" if rough else None,
        gid=f"rest-{radius:g}",
        zorder=6,
    )


@figure("ball_ironing", needs=Needs(study="ball_ironing"))
def draw(tree: xr.DataTree) -> Figure:
    """The whole line above, with every radius; below, the neighbourhood of the paths.

    Args:
        tree: results of the study `ball_ironing`: groups with `height` over `x`, `path_height`
            over `path_x`, and the attribute `radius`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with the variables 'height' and 'path_height' (a study ball_ironing)"
    found = parts(tree, "ball_ironing", needs, "path_height").values()
    found = sorted(found, key=lambda data: float(data.attrs["radius"]))
    with style():
        figure = new_figure(6.2)
        panels = list(figure.subplots(2, 1, height_ratios=[1, 1.25]))
        for axes in panels:
            for position, data in enumerate(found):
                _add_radius(axes, data, color_of(position), position)
            axes.set_ylabel("height of the centre\n(loss)")
        panels[0].set_title("Landscape and ironed landscapes")
        panels[1].set_title("Where the balls roll: thick, the centre's path, to its resting place")
        panels[1].set_xlabel("parameter")
        paths = np.concatenate([data["path_x"].values for data in found])
        heights = np.concatenate([data["path_height"].values for data in found])
        margin = max(0.1 * float(np.ptp(paths)), 0.02)
        panels[1].set_xlim(paths.min() - margin, paths.max() + margin)
        above = 0.12 * float(np.ptp(heights))
        panels[1].set_ylim(heights.min() - above, heights.max() + above)
        dots = {"color": "0.3", "linestyle": "none", "marker": "o"}
        panels[0].plot([], [], markersize=2.6, label="local minima (40 at most)", **dots)
        add_legend(figure, tree, panels[:1], columns=3)
    return figure
