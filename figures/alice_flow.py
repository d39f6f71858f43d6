"""Alice beside its flow: paths, errors over phi, and decays on a quadratic."""

from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, new_figure, style

_DISCRETE: dict[str, Any] = {
    "color": "black",
    "linestyle": "none",
    "marker": "o",
    "markersize": 2.5,
    "markerfacecolor": "none",
    "markeredgewidth": 0.7,
}
_MODELS = {
    "with momentum": ("flow", {"color": "C0"}),
    "without momentum": ("flow with g(μ) for m", {"color": "C1", "linestyle": (0, (4, 2))}),
}
_TERMS = {"glass": ("glass", "C3"), "hessian": ("|h|", "C2"), "both": ("both", "C4")}


@figure("alice_flow", needs=Needs(study="alice_flow"))
def draw(tree: xr.DataTree) -> Figure:
    """The second parameter over time, the error over phi, and x over time on a quadratic.

    Args:
        tree: results of the study `alice_flow`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with the variable 'flow' (a study alice_flow)"
    found = parts(tree, "alice_flow", needs, "flow", "discrete")
    groups = {"paths": _add_paths, "order": _add_order, "decay": _add_decay}
    drawn = [name for name in groups if name in tree.children]
    with style():
        figure = new_figure(3.3)
        panels = figure.subplots(1, len(drawn), squeeze=False)[0]
        for axes, name in zip(panels, drawn, strict=True):
            groups[name](axes, found.get(name, tree[name].to_dataset()))
        add_legend(figure, tree, list(panels), columns=3)
    return figure


def _add_paths(axes: Axes, data: xr.Dataset) -> None:
    time = data["step"].values * data.attrs["share"]
    values = data["discrete"].values[:, 1]
    axes.plot(time, values, label="Alice", gid="paths/discrete", **_DISCRETE)
    for model, (label, look) in _MODELS.items():
        values = data["flow"].sel(model=model).values[:, 1]
        axes.plot(time, values, label=label, gid=f"paths/{model}", **look)
    axes.set(xlabel="φ · steps", ylabel="second parameter")
    axes.set_title(f"φ = {data.attrs['share']:g}")


def _add_order(axes: Axes, data: xr.Dataset) -> None:
    share = data["share"].values
    for model, (label, look) in _MODELS.items():
        values = data["error"].sel(model=model).values
        axes.plot(share, values, label=label, marker="o", gid=f"order/{model}", **look)
    guide = 0.6 * float(data["error"].sel(model="with momentum")[0]) * share / share[0]
    axes.plot(share, guide, color="black", linewidth=0.8, linestyle=(0, (1, 1.5)), gid="guide")
    axes.annotate("φ", (share[1], guide[1]), ha="left", va="top")
    axes.set(xscale="log", yscale="log", xlabel="φ = 1 − β₁", ylabel="largest distance")
    ends = [share.min(), share.max()]
    axes.set_xticks(ends, [f"{end:g}" for end in ends])
    axes.set_xticks([], minor=True)
    axes.set_title("error of the flows")


def _add_decay(axes: Axes, data: xr.Dataset) -> None:
    time = data["step"].values * data.attrs["share"]
    for term, (label, colour) in _TERMS.items():
        flow, discrete = data["flow"].sel(term=term).values, data["discrete"].sel(term=term).values
        axes.plot(time, flow, color=colour, label=f"flow with {label}", gid=f"decay/{term}")
        axes.plot(time, discrete, gid=f"decay/{term}/discrete", **_DISCRETE)
    closed = data["algebraic"].values
    axes.plot(
        time, closed, color="black", linewidth=0.8, linestyle=(0, (1, 1.5)), gid="decay/algebraic"
    )
    axes.annotate(
        "1/(1 + t/τ)",
        (time[-1], closed[-1]),
        xytext=(0, -6),
        textcoords="offset points",
        ha="right",
        va="top",
    )
    axes.set(yscale="log", xlabel="φ · steps", ylabel="x")
    axes.set_ylim(1e-6, 2)
    axes.set_title("on x²/2")
