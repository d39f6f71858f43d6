"""The two-cycle of sharpness-aware minimisation, and rods along it, against the sharpness."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, mark, new_figure, style

# The widest is below the others, so that curves that agree are all seen.
_LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "sam": ("SAM, its iterates", {"color": "black", "linestyle": "none", "marker": "o"}),
    "rod_flow": ("Rod Flow, one rod", {"color": "C0", "linewidth": 5.0, "alpha": 0.5}),
    "two_rods": ("Rod Flow, two rods", {"color": "C3", "linewidth": 1.4, "linestyle": (0, (4, 2))}),
}
_FORMULA = {"color": "0.2", "linewidth": 1.0, "zorder": 5}


def _add(panels: tuple[Axes, Axes], group: str, data: xr.Dataset) -> None:
    """Draw where one of them ends: the length, and the distance of the centre from 0."""
    label, look = _LOOKS.get(group, (group, {}))
    sizes = {"markersize": 3.2, "zorder": 6 if group == "sam" else 3}
    for axes, name in zip(panels, ("half_length", "off_centre"), strict=True):
        x, y = data["sharpness"].values, data[name].values
        axes.plot(x, y, label=label, gid=f"{group}/{name}", **sizes, **look)


@figure("sam_cycle", needs=Needs(study="sam_cycle"))
def draw(tree: xr.DataTree) -> Figure:
    """The half-length of SAM's two-cycle and of rods, and how far their centres are off.

    Args:
        tree: results of the study `sam_cycle`: groups with `half_length` and `off_centre` over the
            coordinate `sharpness`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with the variable 'half_length' (a study sam_cycle)"
    found = parts(tree, "sam_cycle", needs, "half_length", "off_centre")
    eta, radius, smoothing, critical = (
        float(tree.attrs[name])
        for name in ("learning_rate", "radius", "smoothing", "critical_sharpness")
    )
    with style():
        figure = new_figure(5.6)
        length, centre = figure.subplots(2, 1, sharex=True)
        for group in sorted(found, key=list(_LOOKS).index):
            _add((length, centre), group, found[group])
        sharpness = next(iter(found.values()))["sharpness"].values
        fine = np.linspace(sharpness.min(), sharpness.max(), 200)
        gradient = eta * radius * fine**2 / (2 - eta * fine)
        cycle = np.sqrt(gradient**2 - smoothing**2) / fine
        length.plot(fine, cycle, label="ηSρ/(2 − ηS), smoothed", gid="formula", **_FORMULA)
        length.set_ylabel("half-length\n(parameter)")
        centre.set_ylabel("centre, distance\nfrom 0 (parameter)")
        centre.set_xlabel("S, sharpness of the quadratic (loss / parameter²)")
        mark(length, critical, "2/η")
        figure.align_ylabels([length, centre])
        add_legend(figure, tree, [length], columns=2)
    return figure
