"""Bifurcation diagram of the quartic: where gradient descent and its flows end, against S."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, mark, new_figure, style

_ITERATES = {"color": "black", "linestyle": "none", "marker": "o", "markersize": 1.8, "zorder": 4}
_FORMULA = {"color": "C3", "linewidth": 1.3, "linestyle": (0, (2, 1.5)), "zorder": 5}
# The widest is pale and below the others, so that curves that agree are all seen.
_LINE_STYLES = ("--", "-.", "-")
_WIDTHS = (1.6, 2.0, 6.0)
_OPACITIES = (1.0, 1.0, 0.5)


def _groups(tree: xr.DataTree, variable: str) -> list[str]:
    return [name for name, child in tree.children.items() if variable in child.dataset]


def _add_flow(axes: Axes, tree: xr.DataTree, group: str, position: int) -> None:
    """Draw a flow's centre plus and minus its standard deviation, or its centre alone."""
    data = tree[group].dataset
    look: dict[str, Any] = {
        "color": color_of(position),
        "linestyle": _LINE_STYLES[position % len(_LINE_STYLES)],
        "linewidth": _WIDTHS[position % len(_WIDTHS)],
        "alpha": _OPACITIES[position % len(_OPACITIES)],
        "zorder": 3,
    }
    label = str(data.attrs.get("label", group)).replace("_", " ")
    centre = data["centre"].values
    if "variance" not in data:
        axes.plot(
            data["curvature"], centre, label=f"{label}: centre", gid=f"{group}/centre", **look
        )
        return
    spread = np.sqrt(np.maximum(data["variance"].values, 0))
    for sign, name in ((1, f"{label}: centre ± √variance"), (-1, f"_{label}")):
        side = "above" if sign > 0 else "below"
        values = centre + sign * spread
        axes.plot(data["curvature"], values, label=name, gid=f"{group}/{side}", **look)


@figure("rod_quartic", needs=Needs(study="rod_quartic"))
def draw(tree: xr.DataTree) -> Figure:
    """The last iterates of gradient descent, the two-cycle's formula and the flows, against S.

    Args:
        tree: results of the study `rod_quartic`: groups with the coordinate `curvature` and the
            variables `iterates`, or `centre` and perhaps `variance`.

    Raises:
        ValueError: if there is none of either.
    """
    iterated, flows = _groups(tree, "iterates"), sorted(_groups(tree, "centre"))
    if not iterated and not flows:
        needs = "groups with the variables 'iterates' or 'centre' (a study rod_quartic)"
        raise nothing_to_draw("rod_quartic", needs, tree)
    with style():
        figure = new_figure(4.6)
        axes = figure.add_subplot()
        for group in iterated:
            data = tree[group].dataset
            name = str(data.attrs.get("label", group)).replace("_", " ")
            points = data["iterates"].transpose("curvature", "last").values
            lines = axes.plot(data["curvature"], points, **_ITERATES)
            lines[0].set(label=f"{name}: last iterates", gid=f"{group}/iterates")
        for position, group in enumerate(flows):
            _add_flow(axes, tree, group, position)
        critical = float(tree.attrs["critical_sharpness"])
        curvature = tree[(iterated + flows)[0]].dataset["curvature"].values
        fine = np.linspace(critical, max(curvature.max(), critical), 200)
        cycle = np.sqrt((fine - critical) / float(tree.attrs["quartic"]))
        axes.plot(fine, cycle, label="two-cycle: ±√(S/Q − 2/(ηQ))", gid="formula", **_FORMULA)
        axes.plot(fine, -cycle, label="_formula", **_FORMULA)
        for multiple in (2, 3):
            value = multiple * critical / 2
            if curvature.min() < value < curvature.max():
                mark(axes, value, f"{multiple}/η")
        axes.set(xlabel="S, curvature at 0 (loss / parameter²)", ylabel="w (parameter)")
        add_legend(figure, tree, [axes], columns=2)
    return figure
