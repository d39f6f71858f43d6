"""How many local minima a ball leaves of a rough line, against its radius."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.curves import parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style

_LINE_STYLES = ("-", "--", "-.")
_MARKS = ("o", "s", "D")


@figure("ball_minima", needs=Needs(study="ball_minima"))
def draw(tree: xr.DataTree) -> Figure:
    """Counts on logarithmic axes, with those of the landscape itself as level lines.

    Args:
        tree: results of the study `ball_minima`: groups with `minima` over `radius`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with the variable 'minima' (a study ball_minima)"
    found = parts(tree, "ball_minima", needs, "minima")
    with style():
        figure = new_figure(4.0)
        axes = figure.add_subplot()
        axes.set(xscale="log", yscale="log")
        for position, (name, data) in enumerate(found.items()):
            radii, counts = data["radius"].values, data["minima"].values
            drawn = (radii > 0) & (counts > 0)
            color = color_of(position)
            label = str(data.attrs.get("label", name))
            axes.plot(
                radii[drawn],
                counts[drawn],
                color=color,
                linestyle=_LINE_STYLES[position % len(_LINE_STYLES)],
                marker=_MARKS[position % len(_MARKS)],
                markersize=6,
                label=label,
                gid=name,
            )
            for value in counts[radii == 0]:
                axes.axhline(value, color=color, linewidth=0.9, linestyle=":", gid=f"{name}/rough")
                axes.annotate(
                    f"without a ball: {int(value)}",
                    (1.0, value),
                    xycoords=("axes fraction", "data"),
                    xytext=(-4, 3),
                    textcoords="offset points",
                    horizontalalignment="right",
                    color=color,
                )
            for radius, count in zip(radii[drawn], counts[drawn], strict=True):
                axes.annotate(
                    str(int(count)),
                    (radius, count),
                    xytext=(6, 4) if position % 2 else (-3, -12),
                    textcoords="offset points",
                    horizontalalignment="left" if position % 2 else "right",
                    fontsize=8,
                    color=color,
                )
        top = max(float(np.max(data["minima"].values)) for data in found.values())
        axes.set_ylim(0.7, 3 * top)
        x = "ρ, radius of the ball (parameter)"
        axes.set(xlabel=x, ylabel="local minima of the ironed landscape")
        add_legend(figure, tree, [axes], columns=2)
    return figure
