"""What gradient descent comes to, against its learning rate and the curvature of a well."""

import math

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import new_figure, style
from figures.swept import draw_categories, map_axes, swept

_RATE, _CURVATURE = "learning_rate", "curvature"
# eta S at which the quartic's minimum turns unstable, its two-cycles do (those without symmetry,
# u and -v with eta Q (u^2 + v^2) = eta S - 1 and eta Q u v = 1, whose multiplier
# 9 - 2 (eta S - 1)^2 reaches -1), and iterates escape.
_LIMITS = {
    "2": (2.0, (0, (4, 2))),
    "(1 + √5)": (1 + math.sqrt(5), (0, (1, 1.5))),
    "4": (4.0, (0, (5, 1, 1, 1))),
}


@figure("phase_diagram", needs=Needs(sweep=True))
def draw(tree: xr.DataTree) -> Figure:
    """A map of outcomes over the learning rate eta and the curvature S, with its borders.

    Args:
        tree: results of a sweep over `learning_rate` and `curvature`, with `outcome`.

    Raises:
        ValueError: if it is of another kind.
    """
    data = swept(tree, "phase_diagram", "outcome")
    if set(data["outcome"].dims) != {_RATE, _CURVATURE}:
        needs = f"'outcome' along {_RATE} and {_CURVATURE} alone"
        raise nothing_to_draw("phase_diagram", needs, tree)
    words = data["outcome"].transpose(_RATE, _CURVATURE).values
    with style():
        figure = new_figure(4.4)
        axes = figure.add_subplot()
        borders = map_axes(axes, tree, data, (_RATE, _CURVATURE))
        entries = draw_categories(axes, borders, words)
        rates = np.geomspace(borders[0][0], borders[0][-1], 300)
        lines = []
        for name, (product, pattern) in _LIMITS.items():
            (line,) = axes.plot(
                rates, product / rates, color="#B2182B", linestyle=pattern, gid=f"{name}/eta"
            )
            lines.append((line, f"S = {name}/η"))
        axes.set(xlim=borders[0][[0, -1]], ylim=borders[1][[0, -1]])
        axes.set_xlabel("learning rate η (parameter² / loss)")
        axes.set_ylabel("S, curvature at 0 (loss / parameter²)")
        handles, labels = zip(*entries, *lines, strict=True)
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=4,
            title=str(tree.attrs.get("title") or "") or None,
            alignment="left",
        )
    return figure
