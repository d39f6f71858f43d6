"""Gradient glass: powers of second differences, and the density over the number of examples."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, new_figure, style

_LEAVES = {"first weights": ("C0", "-"), "output weights": ("C1", (0, (4, 2)))}


def _add_guide(axes: Axes, x: np.ndarray, y: float, power: int, left: bool) -> None:
    """Draw a line of a power of sigma from a point on."""
    values = y * (x / x[0]) ** power
    axes.plot(x, values, color="black", linewidth=0.8, linestyle=(0, (1, 1.5)), gid="guide")
    where = (len(x) - 1) // 2
    axes.annotate(
        "σ" if power == 1 else f"σ{'⁰¹²³⁴'[power]}",
        (x[where], values[where]),
        xytext=(-3 if left else 3, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="bottom" if left else "top",
    )


@figure("glass_powers", needs=Needs(study="glass_powers"))
def draw(tree: xr.DataTree) -> Figure:
    """The squared second difference over sigma, per activation, and the density over N.

    Args:
        tree: results of the study `glass_powers`: groups with `squared_difference` over the
            coordinates `sigma` and `leaf`, and one with `density` and `exact` over `number`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with the variable 'squared_difference' (a study glass_powers)"
    found = parts(tree, "glass_powers", needs, "squared_difference")
    counted = next((node for node in tree.children.values() if "exact" in node), None)
    with style():
        figure = new_figure(3.4)
        count = len(found) + (counted is not None)
        panels = figure.subplots(1, count, squeeze=False)[0]
        for axes, (group, data) in zip(panels, found.items(), strict=False):
            sigma = data["sigma"].values
            for leaf, (colour, dash) in _LEAVES.items():
                values = data["squared_difference"].sel(leaf=leaf).values
                axes.plot(
                    sigma, values, color=colour, linestyle=dash, label=leaf, gid=f"{group}/{leaf}"
                )
            short = sigma[: max(len(sigma) // 3, 2)]
            first = data["squared_difference"].isel(sigma=0)
            power = 1 if data.attrs["label"] == "relu" else 4
            top = float(first.sel(leaf="first weights"))
            _add_guide(axes, short, (4 if power == 1 else 30) * top, power, left=True)
            if power == 1:
                _add_guide(axes, short, 0.2 * float(first.sel(leaf="output weights")), 3, False)
            axes.set(xscale="log", yscale="log", xlabel="σ (parameter)")
            axes.set_title(f"{data.attrs['label']}, {tree.attrs['examples']} examples")
        panels[0].set_ylabel("squared second difference\n(loss² / parameter²)")
        for axes in panels[1 : len(found)]:
            axes.sharey(panels[0])
            axes.tick_params(labelleft=False)
        if counted is not None:
            _add_examples(panels[-1], counted.to_dataset())
        add_legend(figure, tree, list(panels), columns=4)
    return figure


def _add_examples(axes: Axes, data: xr.Dataset) -> None:
    number = data["number"].values
    looks: tuple[tuple[str, dict[str, Any], str], ...] = (
        (
            "exact",
            {"marker": "o", "linestyle": "none", "markerfacecolor": "none"},
            "counted exactly",
        ),
        ("density", {"linestyle": "-"}, "_first weights"),
    )
    for variable, look, label in looks:
        values = data[variable].sel(leaf="first weights").values
        axes.plot(number, values, color="C0", label=label, gid=f"examples/{variable}", **look)
    guide = 0.4 * data["exact"].sel(leaf="first weights").values[0] * number[0] / number
    axes.plot(number, guide, color="black", linewidth=0.8, linestyle=(0, (1, 1.5)), gid="guide")
    middle = len(number) // 2
    axes.annotate("1/N", (number[middle], guide[middle]), ha="right", va="top")
    axes.set(xscale="log", yscale="log", xlabel="examples N")
    axes.set_ylabel("density of glass\n(loss² / parameter³)")
    axes.set_title("relu")
