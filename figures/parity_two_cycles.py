"""Two-cycles on the quartic: iterates, formula, and equilibria of the parity flow, against S."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style

_ITERATES = {"color": "black", "linestyle": "none", "marker": "o", "markersize": 2.2, "zorder": 6}
_FORMULA = {"color": "black", "linewidth": 0.7, "zorder": 5}
# Where a flow has left the two-cycle, by more than this share of its |d|.
_AWAY = 1e-2
_ASTRAY = {"linestyle": "none", "marker": "x", "markersize": 4, "zorder": 7}
# Each order is drawn upon the one before and narrower, so that curves that agree are all seen.
_WIDTHS = (8.5, 6.2, 4.0, 2.0)


def _add_branches(axes: Axes, x: np.ndarray, centre: np.ndarray, half: np.ndarray, **look: Any):
    """Draw c + d and c - d as one entry of the legend."""
    label, gid = look.pop("label"), look.pop("gid")
    for sign, name in ((1, label), (-1, f"_{label}")):
        side = "above" if sign > 0 else "below"
        axes.plot(x, centre + sign * half, label=name, gid=f"{gid}/{side}", **look)


def _mark(
    axes: Axes, curvature: np.ndarray, value: float, text: str, *, left: bool, top: bool = True
) -> None:
    """Draw a dashed line at a curvature that is in the range, with a text beside it."""
    if not curvature.min() < value < curvature.max():
        return
    look: dict[str, Any] = {"color": "0.45", "linewidth": 0.8, "linestyle": (0, (3, 2))}
    axes.axvline(value, zorder=1, gid=text, **look)
    axes.annotate(
        text,
        (value, 1.0 if top else 0.0),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if left else 4, -2 if top else 3),
        textcoords="offset points",
        horizontalalignment="right" if left else "left",
        verticalalignment="top" if top else "bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
    )


def _add_optimizer(axes: Axes, group: str, data: xr.Dataset) -> None:
    """Draw the ends of the runs of an optimizer and its flows."""
    curvature, attrs = data["curvature"].values, data.attrs
    period_four = float(attrs["period_four"])
    # Beyond, there is no stable two-cycle that a flow could end on.
    there = curvature < period_four
    formula = data["half_difference_formula"].values
    # The quartic is even: of two cycles that mirror each other the one with c > 0 is drawn.
    for position, order in enumerate(data["order"].values):
        centre, half = (
            np.abs(data[name].sel(order=order).values) for name in ("centre", "half_difference")
        )
        away = there & (formula > 0) & ~(np.abs(half - formula) <= _AWAY * formula)
        name, colour = f"parity flow of order {order}", color_of(position)
        _add_branches(
            axes,
            curvature,
            np.where(there & ~away, centre, np.nan),
            half,
            color=colour,
            linewidth=_WIDTHS[position % len(_WIDTHS)],
            zorder=3 + 0.1 * position,
            label=f"{name}: c ± d",
            gid=f"{group}/order-{order}",
        )
        if away.any():
            look = {"label": f"{name}, off the two-cycle", "gid": f"{group}/away-{order}"}
            ends = curvature[away], centre[away], half[away]
            _add_branches(axes, *ends, color=colour, **look, **_ASTRAY)
    centre, half = (data[f"{name}_formula"].values for name in ("centre", "half_difference"))
    at = half > 0
    look = {"label": "two-cycle, formula", "gid": f"{group}/formula", **_FORMULA}
    _add_branches(axes, curvature[at], centre[at], half[at], **look)
    last = data["iterates"].transpose("curvature", "last").values
    mirrored = np.where(last.mean(axis=1, keepdims=True) < 0, -1, 1) * last
    lines = axes.plot(curvature, mirrored, **_ITERATES)
    lines[0].set(label="optimizer: last iterates", gid=f"{group}/iterates")
    beta = float(attrs["momentum"])
    factor = "(1 + β)" if beta else ""
    _mark(axes, curvature, float(attrs["critical_sharpness"]), f"2{factor}/η", left=False)
    _mark(axes, curvature, float(attrs["symmetry_lost"]), f"3{factor}/η", left=True)
    _mark(axes, curvature, period_four, "period four", left=True, top=False)
    name = str(attrs.get("label", group)).replace("_", " ")
    axes.set_title(f"{name}, β = {beta:g}" if beta else name)
    axes.set_xlabel("S, curvature at 0\n(loss / parameter²)")


@figure("parity_two_cycles", needs=Needs(study="parity_two_cycles"))
def draw(tree: xr.DataTree) -> Figure:
    """The last iterates of each optimizer, and c + d and c - d of its flows at the end, against S.

    Args:
        tree: results of the study `parity_two_cycles`: groups with the coordinates `curvature` and
            `order`, and the variables `iterates`, `centre`, `half_difference` and their formulas.

    Raises:
        ValueError: if there is none.
    """
    parts = {
        name: child.to_dataset()
        for name, child in tree.children.items()
        if "half_difference_formula" in child.dataset
    }
    if not parts:
        needs = "groups with the variable 'half_difference_formula' (a study parity_two_cycles)"
        raise nothing_to_draw("parity_two_cycles", needs, tree)
    with style():
        figure = new_figure(4.7)
        panels = list(figure.subplots(1, len(parts), sharey=True, squeeze=False)[0])
        for axes, (group, data) in zip(panels, parts.items(), strict=True):
            _add_optimizer(axes, group, data)
        panels[0].set_ylabel("w (parameter)")
        add_legend(figure, tree, panels, columns=2)
    return figure
