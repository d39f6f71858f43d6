"""Four problems on manifolds: a circle, a hyperbolic mean, Toda's lattice, a network's norm."""

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.registry import Needs, figure
from figures.sheet import add_legend, new_figure, style

_DASHED = (0, (4, 3))


def _circle(axes: Axes, data: xr.Dataset) -> None:
    """Draw where the iterates on the circle are in the end, over the rate."""
    rates = data["rate"].values
    for position, name in enumerate(map(str, data["retraction"].values)):
        one = data.sel(retraction=name)
        angles = one["angle"].values
        axes.plot(
            np.repeat(rates, angles.shape[1]),
            angles.ravel(),
            linestyle="",
            marker=".",
            markersize=1.5,
            color=f"C{position}",
            label=f"{name}: last iterates",
            gid=f"circle/{name}",
        )
        for sign in (1, -1):
            axes.plot(
                rates,
                sign * one["predicted"],
                color="black",
                linewidth=0.9,
                linestyle=_DASHED,
                label="theory",
                zorder=3,
            )
    axes.set_title("Circle, by retraction", fontsize="medium")
    axes.set_xlabel("η times the sharpness")
    axes.set_ylabel("angle (radians)")


def _mean(axes: Axes, data: xr.Dataset) -> None:
    """Draw how far from the mean of two points descent ends."""
    image = axes.pcolormesh(
        data["spread"].values,
        data["rate"].values,
        data["height"].values.T,
        cmap=matplotlib.colormaps["Blues"].with_extremes(bad="0.8"),
        shading="nearest",
        rasterized=True,
        gid="mean/height",
    )
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("distance from it at the end")
    axes.plot(
        data["spread"],
        data["threshold"],
        color="black",
        linewidth=1.0,
        linestyle=_DASHED,
        label="theory",
        gid="mean/threshold",
    )
    axes.set_ylim(data["rate"].values[0], data["rate"].values[-1])
    axes.set_title("Mean of ±r (grey: escapes)", fontsize="medium")
    axes.set_xlabel("distance r of the two points")
    axes.set_ylabel("learning rate η")


def _toda(axes: Axes, data: xr.Dataset) -> None:
    """Draw the diagonal of Toda's lattice, which the flow sorts."""
    step, some = data["step"].values, slice(None, None, max(len(data["step"]) // 15, 1))
    for entry in range(data.sizes["entry"]):
        color = f"C{entry}"
        axes.axhline(
            float(data["eigenvalue"][entry]), color="0.6", linewidth=0.8, linestyle=(0, (1, 1.5))
        )
        axes.plot(step, data["diagonal"][:, entry], color=color, gid=f"toda/{entry}")
        axes.plot(
            step[some],
            data["exact"][some, entry],
            linestyle="",
            marker="o",
            markersize=3,
            markerfacecolor="none",
            color=color,
        )
    axes.set_title("Toda flow (circles: by QR)", fontsize="medium")
    axes.set_xlabel("step (optimizer steps)")
    axes.set_ylabel("diagonal of XᵀAX;\ndotted: eigenvalues")


def _growth(axes: Axes, data: xr.Dataset) -> None:
    """Draw how the squared norm of the weights grows, and when the sphere is beyond its edge."""
    step = data["step"].values[1:]
    looks: dict[str, tuple[str, dict[str, Any]]] = {
        "discrete": ("gradient descent", {"linewidth": 3.0, "alpha": 0.4}),
        "corrected": ("corrected gradient flow", {"linewidth": 1.1}),
    }
    for position, rate in enumerate(data["rate"].values):
        one, color = data.sel(rate=rate), f"C{3 + position}"
        grown = {name: (one[name] - one[name][0]).values[1:] for name in looks}
        for name, (label, look) in looks.items():
            axes.plot(step, grown[name], color=color, gid=f"growth/{name}/{rate:g}", **look)
            if position == 0:
                axes.plot([], [], color="0.4", label=label, **look)
        beyond = (one["sharpness"] > one["threshold"]).values[1:]
        axes.plot(
            step[beyond],
            grown["discrete"][beyond],
            linestyle="",
            marker="x",
            markersize=4,
            color="black",
            zorder=4,
            label="sharpness on the sphere above 2q/η",
        )
        axes.annotate(
            f"η = {rate:g}",
            (1.0, float(grown["discrete"][-1])),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            verticalalignment="center",
            color=color,
        )
    axes.set_yscale("log")
    axes.set_title("Scale-invariant network", fontsize="medium")
    axes.set_xlabel("step (optimizer steps)")
    axes.set_ylabel("growth of q = |w|² (parameter²)")


_PANELS: dict[str, Callable[[Axes, xr.Dataset], None]] = {
    "circle": _circle,
    "mean": _mean,
    "toda": _toda,
    "growth": _growth,
}


@figure("manifold_edges", needs=Needs(study="manifold_edges"))
def draw(tree: xr.DataTree) -> Figure:
    """The last iterates on a circle, a hyperbolic mean, Toda's lattice and the norm of a network.

    Dashed lines are what theory says: the two-cycles of each retraction as far as they are stable,
    and the rate above which the mean of two points is unstable, 2 tanh(r)/r. Gradient flow, which
    keeps the norm of the network's weights, is left out.

    Args:
        tree: results of the study `manifold_edges`.

    Raises:
        ValueError: if it has none of its parts.
    """
    present = [name for name in _PANELS if name in tree.children]
    if not present:
        raise ValueError(
            "nothing to draw: the figure manifold_edges needs groups of the study manifold_edges."
        )
    with style():
        rows = -(-len(present) // 2)
        drawn = new_figure(1.0 + 2.7 * rows)
        panels = list(drawn.subplots(rows, 2, squeeze=False).flat)
        for axes, name in zip(panels, present, strict=False):
            _PANELS[name](axes, tree[name].to_dataset())
        for axes in panels[len(present) :]:
            axes.remove()
        add_legend(drawn, tree, panels[: len(present)], columns=2)
    return drawn
