"""A network trained by rolling balls of several radii, beside gradient descent."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw, parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style

_PANELS = {
    "loss": ("loss", "Loss at the contact; thin, the balls' flows"),
    "sharpness": ("sharpness\n(loss / parameter²)", "Sharpness at the contact"),
    "radius_times_curvature": ("ρ κ", "Radius times the largest principal curvature"),
}
_LINE_STYLES = ("--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)))


def _add(axes: Axes, variable: str, groups: Mapping[str, Any], radii: list[float]) -> None:
    for name, data in groups.items():
        if variable not in data:
            continue
        values = data[variable].values
        steps = data["step"].values
        finite = np.isfinite(values)
        radius = float(data.attrs["radius"])
        flow = data.attrs["kind"] == "flow"
        if radius == 0:
            look = {"color": "black", "linewidth": 1.2, "zorder": 2}
        else:
            position = radii.index(radius)
            look = {
                "color": color_of(position),
                "linestyle": "-" if flow else _LINE_STYLES[position % len(_LINE_STYLES)],
                "linewidth": 0.7 if flow else 1.8,
                "zorder": 4 if flow else 3,
            }
        label = "_flow" if flow else str(data.attrs["label"]).replace("radius", "ρ")
        axes.plot(steps[finite], values[finite], label=label, gid=f"{name}/{variable}", **look)


@figure("ball_network", needs=Needs(study="ball_network"))
def draw(tree: xr.DataTree) -> Figure:
    """Loss, sharpness with 2/eta, and radius times curvature with its limit of 1.

    Args:
        tree: results of the study `ball_network`: groups with `loss` over `step`, the attributes
            `radius`, `kind` and `label`, and where measured `sharpness` and
            `radius_times_curvature`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with the variable 'loss' and a radius (a study ball_network)"
    found = parts(tree, "ball_network", needs, "loss").items()
    groups = {name: data for name, data in found if "radius" in data.attrs}
    if not groups:
        raise nothing_to_draw("ball_network", needs, tree)
    groups = dict(sorted(groups.items(), key=lambda item: float(item[1].attrs["radius"])))
    radii = sorted({float(data.attrs["radius"]) for data in groups.values()} - {0.0})
    with style():
        present = [v for v in _PANELS if any(v in data for data in groups.values())]
        figure = new_figure(0.9 + 1.9 * len(present))
        panels = list(figure.subplots(len(present), 1, sharex=True, squeeze=False)[:, 0])
        for axes, variable in zip(panels, present, strict=True):
            _add(axes, variable, groups, radii)
            units, title = _PANELS[variable]
            axes.set(ylabel=units, title=title)
            if variable != "sharpness":
                axes.set_yscale("log")
            for name, value in (
                ("sharpness", float(tree.attrs["critical_sharpness"])),
                ("radius_times_curvature", 1.0),
            ):
                if name == variable:
                    axes.axhline(value, color="0.45", linewidth=0.8, linestyle=(0, (3, 2)))
                    text = "2/η" if name == "sharpness" else "the ball fits no more"
                    axes.annotate(
                        text,
                        (1.0, value),
                        xycoords=("axes fraction", "data"),
                        xytext=(-3, 2),
                        textcoords="offset points",
                        horizontalalignment="right",
                    )
        panels[-1].set_xlabel("step (optimizer steps)")
        figure.align_ylabels(panels)
        add_legend(figure, tree, panels[:1], columns=4)
    return figure
