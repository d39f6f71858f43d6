"""Why Adam does not settle at its edge: deviations from two-cycles, growth rates, and bursts."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style

_ROD = {"linewidth": 1.0, "linestyle": (0, (4, 2)), "zorder": 2}
_RATES = {
    "growth": ("rate of the iterates", {"marker": "o", "markersize": 8, "markerfacecolor": "none"}),
    "multiplier_growth": ("rate by the multiplier", {"marker": "x", "markersize": 5}),
    "rod_growth": ("rate of the rod flow", {"marker": "D", "markersize": 3.5}),
}
_EDGE = {"color": "0.35", "linewidth": 0.8, "zorder": 1.5}
# Up to here rates are drawn to scale, and beyond by their logarithm: stable ones are small.
_LINEAR_RATE = 1e-3


def _add_deviation(axes: Axes, group: str, data: xr.Dataset, color: str) -> None:
    """Draw a deviation, and beside it the line on which it is if it grows as the rod's does."""
    steps, values = data["step"].values, data["deviation"].values
    label = str(data.attrs["label"]).replace("b1", "β₁").replace("b2", "β₂")
    axes.plot(steps, values, color=color, linewidth=1.4, label=label, gid=f"{group}/deviation")
    rod = values[0] * np.exp(float(data.attrs["rod_growth"]) * steps)
    there = rod <= 1
    axes.plot(steps[there], rod[there], color=color, label="_rod", gid=f"{group}/rod", **_ROD)


def _add_rates(axes: Axes, parts: dict[str, xr.Dataset]) -> None:
    """Draw each method's rates in a row of its own, from the top in the order of the legend."""
    for row, (group, data) in enumerate(parts.items()):
        for name, (label, look) in _RATES.items():
            rate = float(data.attrs.get(name, np.nan))
            (line,) = axes.plot(rate, row, linestyle="none", color=color_of(row), **look)
            line.set(label=f"_{label}", gid=f"{group}/{name}")
    for label, look in _RATES.values():
        axes.plot([], [], linestyle="none", color="0.35", label=label, **look)
    axes.axvline(0, gid="stable", **_EDGE)
    axes.set_xscale("symlog", linthresh=_LINEAR_RATE, linscale=0.4)
    axes.set_xticks([-0.1, -0.01, 0, 0.01, 0.1], ["−0.1", "−0.01", "0", "0.01", "0.1"])
    axes.set_xlim(-0.3, 0.3)
    axes.set_yticks(range(len(parts)), [""] * len(parts))
    axes.set_ylim(len(parts) - 0.4, -0.6)
    axes.set_xlabel("growth rate per step")
    for share, text in ((0.04, "stable"), (0.96, "unstable")):
        side = "left" if share < 0.5 else "right"
        axes.text(share, 1.02, text, transform=axes.transAxes, horizontalalignment=side)


@figure("adam_bursts", needs=Needs(study="adam_bursts"))
def draw(tree: xr.DataTree) -> Figure:
    """Deviations from two-cycles over the steps, their rates, and a run that bursts or settles.

    Above: the deviations of the iterates (solid) and those of a rod flow (dashed), and their rates
    per step: of the iterates, by the largest multiplier, and of the rod flow. Below: |w| over the
    two-cycle's amplitude, and the preconditioned sharpness over its critical value, for the methods
    of the most and the least stable two-cycle.

    Args:
        tree: results of the study `adam_bursts`: groups with the variables `deviation`,
            `amplitude` and `sharpness_ratio`, and the attributes `growth`, `multiplier_growth`
            and `rod_growth`.

    Raises:
        ValueError: if there is none.
    """
    found = {
        name: child.to_dataset()
        for name, child in tree.children.items()
        if "deviation" in child.dataset and "rod_growth" in child.attrs
    }
    if not found:
        needs = "groups with the variable 'deviation' (a study adam_bursts)"
        raise nothing_to_draw("adam_bursts", needs, tree)
    parts = dict(sorted(found.items(), key=lambda item: item[1].attrs["multiplier_growth"]))
    with style():
        figure = new_figure(6.2)
        (above, rates), (below, ratio) = figure.subplots(2, 2)
        for row, (group, data) in enumerate(parts.items()):
            _add_deviation(above, group, data, color_of(row))
        above.plot([], [], color="0.35", label="rod flow", **_ROD)
        above.set(yscale="log", xlabel="steps", ylabel="deviation from the two-cycle")
        _add_rates(rates, parts)
        # The first settles fastest and the last bursts most often; the others would cover them.
        for row in sorted({0, len(parts) - 1}, reverse=True):
            group, data = list(parts.items())[row]
            look: dict[str, Any] = {"color": color_of(row), "linewidth": 0.7}
            for axes, name in ((below, "amplitude"), (ratio, "sharpness_ratio")):
                steps = data["settling_step"].values
                axes.plot(steps, data[name].values, gid=f"{group}/{name}", **look)
        for axes, label in ((below, "|w| / amplitude"), (ratio, "sharpness / critical")):
            axes.axhline(1, gid="edge", **_EDGE)
            axes.set(xlabel="steps", ylabel=label)
        below.set(yscale="log", ylim=(1e-3, 10))
        add_legend(figure, tree, [above, rates], columns=2)
    return figure
