"""Where balls come to rest in wells of growing curvature."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.curves import parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, mark, new_figure, style

_LOOKS = (("C0", "o"), ("C1", "s"))


@figure("ball_unreachable", needs=Needs(study="ball_unreachable"))
def draw(tree: xr.DataTree) -> Figure:
    """Distance of the contact from the bottom of the well, and the number of contacts.

    Args:
        tree: results of the study `ball_unreachable`: groups with `contact` and `contacts` over
            `product`, and the attribute `radius` of the root.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with the variable 'contact' (a study ball_unreachable)"
    found = parts(tree, "ball_unreachable", needs, "contact")
    radius = float(tree.attrs["radius"])
    with style():
        figure = new_figure(4.6)
        panels = list(figure.subplots(2, 1, sharex=True, height_ratios=[3, 1]))
        ends: list[float] = []
        formula_color = "0.3"
        for position, (name, data) in enumerate(found.items()):
            color, marker = _LOOKS[position % len(_LOOKS)]
            formula_color = color if name == "quadratic" else formula_color
            product = data["product"].values
            ends += [float(product.min()), float(product.max())]
            label = {"quadratic": "σt²/2", "gaussian": "−exp(−σt²/2)"}.get(name, name)
            look = {"color": color, "marker": marker, "markersize": 4, "linestyle": "none"}
            panels[0].plot(product, data["contact"] / radius, label=label, gid=name, **look)
            shift = 0.06 * (position - 0.5)
            panels[1].plot(product, data["contacts"] + shift, gid=f"{name}/contacts", **look)
        fine = np.linspace(max(1.0, min(ends)), max(*ends, 1.0), 300)
        panels[0].plot(
            fine,
            np.sqrt(fine**2 - 1) / fine,
            color=formula_color,
            linewidth=1.2,
            label="√((ρσ)² − 1)/(ρσ), the quadratic's two contacts",
            gid="formula",
        )
        mark(panels[0], 1.0, "ρσ = 1")
        mark(panels[1], 1.0, "")
        panels[0].set_ylabel("distance of the contact\nfrom the bottom / ρ")
        panels[1].set(ylabel="contacts", ylim=(0.6, 2.4), yticks=[1, 2])
        panels[1].set_xlabel("ρσ, radius times curvature of the well")
        figure.align_ylabels(panels)
        add_legend(figure, tree, panels[:1], columns=3)
    return figure
