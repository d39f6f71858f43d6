"""Approximate posteriors: predictive bands, probability maps, and the table of their metrics."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, grid, new_figure, style

_NAMES = {
    "map": "trained network",
    "laplace": "Laplace",
    "linearised_laplace": "linearised Laplace",
    "riemannian_laplace": "Riemannian Laplace",
    "dims": "DiMS",
    "deep_ensemble": "deep ensemble",
}
# Which samples count: at rest, at the end of their geodesic, at the training targets.
_COUNTED = {"dims": "at rest", "riemannian_laplace": "arrived", "deep_ensemble": "trained"}
_METRICS = {
    "nll": "NLL (nats) ↓",
    "brier": "Brier score ↓",
    "ece": "ECE ↓",
    "accuracy": "accuracy ↑",
    "auroc": "OOD AUROC ↑",
}
_DATA = "data"
# Half the height of a band, in deviations.
_BAND = 2


def _name(method: str) -> str:
    return _NAMES.get(method, method.replace("_", " "))


def _methods(tree: xr.DataTree, figure: str, needs: str, variable: str) -> list[str]:
    groups = parts(tree, figure, needs, variable)
    order = list(_NAMES)
    return sorted(groups, key=lambda group: order.index(group) if group in order else len(order))


def _title(tree: xr.DataTree, method: str) -> str:
    scale = float(tree[method].attrs.get("scale", np.nan))
    kept = float(tree[method].attrs.get("kept", 1.0))
    title = _name(method) + (f", σ = {scale:g}" if np.isfinite(scale) else "")
    how = _COUNTED.get(method, "count")
    return title + (f" ({100 * kept:.0f}% {how})" if kept < 1 else "")


@figure("dims_regression", needs=Needs(study="dims_regression"))
def draw_regression(tree: xr.DataTree) -> Figure:
    """Mean, band of two deviations and some samples of each method, with the training data.

    Args:
        tree: results of the study `dims_regression`: groups with `mean` and `deviation` over `x`,
            and a group `data`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with 'mean' and 'deviation'"
    methods = _methods(tree, "dims_regression", needs, "mean")
    # The dissipative samples first, beside what they are compared with.
    methods.sort(key=lambda method: method != "dims")
    with style():
        figure = new_figure(0.7 + 1.75 * -(-len(methods) // 2))
        panels = grid(figure, len(methods), 2)
        for axes, method in zip(panels, methods, strict=True):
            _add_band(axes, tree, method)
        y = tree[_DATA].dataset["y"].values if _DATA in tree.children else np.array([-1.0, 1.0])
        middle, half = (y.max() + y.min()) / 2, (y.max() - y.min()) / 2
        panels[0].set_ylim(middle - 3.2 * half, middle + 3.2 * half)
        for index, axes in enumerate(panels):
            if index % 2 == 0:
                axes.set_ylabel("prediction")
            if index >= len(methods) - 2:
                axes.set_xlabel("input")
                axes.tick_params(labelbottom=True)
        add_legend(figure, tree, panels[:1], columns=4)
    return figure


def _add_band(axes: Axes, tree: xr.DataTree, method: str) -> None:
    data = tree[method].dataset
    x, mean, deviation = (data[name].values for name in ("x", "mean", "deviation"))
    low, high = mean - _BAND * deviation, mean + _BAND * deviation
    label = f"mean ± {_BAND:g} deviations"
    axes.fill_between(
        x, low, high, color="C0", alpha=0.25, linewidth=0, label=label, gid=f"{method}/band"
    )
    for index, sample in enumerate(data["samples"].values):
        label = "samples" if index == 0 else "_sample"
        axes.plot(x, sample, color="0.55", linewidth=0.5, label=label)
    axes.plot(x, mean, color="C0", label="mean", gid=f"{method}/mean")
    if _DATA in tree.children:
        points = tree[_DATA].dataset
        axes.plot(
            points["x"].values,
            points["y"].values,
            linestyle="none",
            marker="o",
            color="black",
            markersize=3,
            label="training data",
            gid="data",
            zorder=5,
        )
    axes.set_title(_title(tree, method))


@figure("dims_banana", needs=Needs(study="dims_banana"))
def draw_banana(tree: xr.DataTree) -> Figure:
    """The predicted probability of class 1 over the plane, one panel per method.

    Args:
        tree: results of the study `dims_banana`: groups with `probability` over `x0` and `x1`, and
            a group `data`.

    Raises:
        ValueError: if there is none.
    """
    methods = _methods(tree, "dims_banana", "groups with 'probability'", "probability")
    with style():
        figure = new_figure(0.75 + 2.15 * -(-len(methods) // 3))
        panels = grid(figure, len(methods), 3)
        image: Any = None
        for index, (axes, method) in enumerate(zip(panels, methods, strict=True)):
            image = _add_map(axes, tree, method)
            if index % 3 == 0:
                axes.set_ylabel("x₂")
            if index >= len(methods) - 3:
                axes.set_xlabel("x₁")
        bar = figure.colorbar(image, ax=panels, shrink=0.8, ticks=[0, 0.5, 1])
        bar.set_label("predicted probability of class 1")
        add_legend(figure, tree, panels[:1], columns=4)
    return figure


def _add_map(axes: Axes, tree: xr.DataTree, method: str) -> Any:
    data = tree[method].dataset
    p = data["probability"].transpose("x1", "x0").values
    x0, x1 = data["x0"].values, data["x1"].values
    image = axes.pcolormesh(x0, x1, p, cmap="cividis", vmin=0, vmax=1, rasterized=True)
    axes.contour(x0, x1, p, levels=[0.25, 0.5, 0.75], colors="white", linewidths=[0.6, 1.4, 0.6])
    axes.plot([], [], color="0.6", linewidth=1.4, label="0.5 (thin: 0.25, 0.75)")
    if _DATA in tree.children:
        points = tree[_DATA].dataset["points"].values
        labels = tree[_DATA].dataset["label"].values
        for label, marker, color in ((0, "o", "white"), (1, "^", "black")):
            axes.plot(
                *points[labels == label].T,
                linestyle="none",
                marker=marker,
                color=color,
                markeredgecolor="black" if color == "white" else "white",
                markeredgewidth=0.5,
                markersize=3.6,
                label=f"class {label}",
                gid=f"class-{label}",
            )
    axes.grid(False)
    axes.set_aspect("equal")
    axes.set_title(_title(tree, method).replace(", ", "\n"), fontsize=8.5)
    return image


@figure("dims_uncertainty", needs=Needs(study="dims_uncertainty"))
def draw_uncertainty(tree: xr.DataTree) -> Figure:
    """Mean and standard error over seeds: a row of panels per data set, a column per metric.

    Args:
        tree: results of the study `dims_uncertainty`: groups with `value` over `method` and
            `metric`, and the attributes `data` and `seed`.

    Raises:
        ValueError: if there is none.
    """
    groups = list(parts(tree, "dims_uncertainty", "groups with 'value' over 'method'", "value"))
    names = list(dict.fromkeys(str(tree[group].attrs["data"]) for group in groups))
    first = tree[groups[0]].dataset
    methods = [str(method) for method in first["method"].values]
    metrics = [str(metric) for metric in first["metric"].values]
    with style():
        figure = new_figure(0.7 + 1.45 * len(names))
        panels = figure.subplots(len(names), len(metrics), sharey=True, squeeze=False)
        for i, name in enumerate(names):
            count = len(_values(tree, groups, name, metrics[0]))
            for j, metric in enumerate(metrics):
                values = _values(tree, groups, name, metric)
                axes = panels[i, j]
                if not np.isfinite(values).any():
                    axes.remove()
                    continue
                _add_metric(axes, values, f"{name}/{metric}")
                if i == 0 or not np.isfinite(_values(tree, groups, names[0], metric)).any():
                    axes.set_title(_METRICS.get(metric, metric), fontsize=8.5)
                axes.tick_params(axis="x", labelsize=7)
            panels[i, 0].set_yticks(range(len(methods)), [_name(m) for m in methods], fontsize=7.5)
            seeds = f"{count} seed" + ("s" if count > 1 else "")
            panels[i, 0].set_ylabel(f"{name.replace('_', ' ')}\n{seeds}", fontsize=9)
        panels[0, 0].set_ylim(len(methods) - 0.5, -0.5)
        add_legend(figure, tree, list(panels[:, 0]), columns=2)
    return figure


def _values(tree: xr.DataTree, groups: list[str], name: str, metric: str) -> np.ndarray:
    runs = [tree[group].dataset for group in groups if tree[group].attrs["data"] == name]
    return np.stack([run["value"].sel(metric=metric).values for run in runs])


def _add_metric(axes: Axes, values: np.ndarray, gid: str) -> None:
    """The mean over seeds of each method with its standard error, which one seed has not."""
    count = len(values)
    mean = values.mean(axis=0)
    position = np.arange(len(mean))
    look: dict[str, Any] = {"color": "C0", "markersize": 4, "gid": gid, "zorder": 3}
    if count == 1:
        axes.plot(
            mean,
            position,
            linestyle="none",
            marker="o",
            markerfacecolor="white",
            label="one seed, no standard error",
            **look,
        )
    else:
        axes.plot(
            values.T,
            np.broadcast_to(position[:, None], values.T.shape),
            linestyle="none",
            marker="|",
            color="0.7",
            markersize=5,
            zorder=2,
        )
        axes.errorbar(
            mean,
            position,
            xerr=values.std(axis=0, ddof=1) / np.sqrt(count),
            fmt="o",
            capsize=2,
            label="mean ± standard error over seeds (grey: each seed)",
            **look,
        )
    axes.locator_params(axis="x", nbins=3)
