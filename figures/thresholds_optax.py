"""The critical sharpness of optax's transformations: from their maps, and by their formulas."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style

_MEASURED: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4}
_FORMULA: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 9,
    "markerfacecolor": "none",
    "markeredgewidth": 0.9,
}
# Height of a row, and of the rest of the figure, in inches.
_ROW, _REST = 0.205, 1.25
# An error below this is drawn here.
_ROUNDING = 1e-16


def _add_family(
    panels: tuple[Axes, Axes], group: str, data: xr.Dataset, rows: np.ndarray, color: str
) -> None:
    """Draw the thresholds of a family, a number at each, and the errors of the formula."""
    axes, errors = panels
    measured, predicted = data["measured"].values, data["predicted"].values
    there = np.isfinite(measured) & np.isfinite(predicted)
    at, found, formula = rows[there], measured[there], predicted[there]
    axes.plot(formula, at, color=color, label="_formula", gid=f"{group}/predicted", **_FORMULA)
    axes.plot(found, at, color=color, label="_map", gid=f"{group}/measured", **_MEASURED)
    for row, value in zip(at, found, strict=True):
        axes.annotate(
            f"{value:.5g}",
            (value, row),
            xytext=(8, 0),
            textcoords="offset points",
            verticalalignment="center",
            fontsize=8,
        )
    error = np.maximum(np.abs(found / formula - 1), _ROUNDING)
    errors.plot(error, at, color=color, gid=f"{group}/error", **_MEASURED)
    for row, reason in zip(rows[~there], data["reason"].values[~there], strict=True):
        axes.text(
            0.02,
            row,
            f"none: {reason}",
            transform=axes.get_yaxis_transform(),
            verticalalignment="center",
            fontsize=8,
            color="0.35",
        )


@figure("thresholds_optax", needs=Needs(study="thresholds_optax"))
def draw(tree: xr.DataTree) -> Figure:
    """Draw eta times the critical sharpness of each transformation, and the formula's error.

    A dot is found from the transformation's map, the circle around it is the formula's; beside it
    is the number. What has no threshold is listed with the reason.

    Args:
        tree: results of the study `thresholds_optax`: groups with the coordinates `transformation`
            and `reason`, the variables `measured` and `predicted`, and the attributes `label` and
            `position`.

    Raises:
        ValueError: if there is none.
    """
    found = {
        name: child.to_dataset()
        for name, child in tree.children.items()
        if "transformation" in child.coords and "measured" in child.dataset
    }
    if not found:
        needs = "groups with the coordinate 'transformation' (a study thresholds_optax)"
        raise nothing_to_draw("thresholds_optax", needs, tree)
    parts = dict(sorted(found.items(), key=lambda item: int(item[1].attrs["position"])))
    # Each family has a row for its heading.
    count = sum(1 + data.sizes["transformation"] for data in parts.values())
    with style():
        figure = new_figure(_REST + _ROW * count)
        axes, errors = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        axes.set(xscale="log", xlabel="η · critical sharpness of P⁻¹H")
        errors.set(xscale="log", xlabel="relative error")
        ticks: dict[int, str] = {}
        row = 0
        for position, (group, data) in enumerate(parts.items()):
            names = [str(name) for name in data["transformation"].values]
            rows = row + 1 + np.arange(len(names))
            axes.text(
                0.02,
                row,
                str(data.attrs["label"]),
                transform=axes.get_yaxis_transform(),
                verticalalignment="center",
                fontsize=9,
                fontweight="bold",
                color=color_of(position),
            )
            _add_family((axes, errors), group, data, rows, color_of(position))
            ticks |= dict(zip(rows.tolist(), names, strict=True))
            row += 1 + len(names)
        axes.set_yticks(list(ticks), list(ticks.values()))
        axes.set_ylim(count - 0.4, -0.6)
        for label, look in (("from the map", _MEASURED), ("by the formula", _FORMULA)):
            axes.plot([], [], color="0.35", label=label, **look)
        # Room for the number at the last dot.
        axes.margins(x=0.2)
        add_legend(figure, tree, [axes])
    return figure
