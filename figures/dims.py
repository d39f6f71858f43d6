"""Dissipative mechanics on two parameters: samples of a ring, energies, the limit, paths."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw, parts
from figures.paths import LANDSCAPE, add_level_sets
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, grid, new_figure, style

_LINE_STYLES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v")
_BARS = 48


def label_of(tree: xr.DataTree, group: str) -> str:
    """What a group is called, in words."""
    return str(tree[group].attrs.get("label", group)).replace("_", " ")


def look_of(position: int) -> dict[str, Any]:
    """Colour and line style of the position-th line of a panel."""
    line = _LINE_STYLES[position % len(_LINE_STYLES)]
    return {"color": color_of(position), "linestyle": line}


@figure("dims_ring", needs=Needs(study="dims_ring"))
def draw_ring(tree: xr.DataTree) -> Figure:
    """Where samples rest on the circle, one panel per initial speed, with a circular histogram.

    Args:
        tree: results of the study `dims_ring`: groups with `params`, `converged` and the attribute
            `speed`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups of samples (a study dims_ring)"
    groups = list(parts(tree, "dims_ring", needs, "params", "converged"))
    groups.sort(key=lambda group: float(tree[group].attrs["speed"]))
    radius = float(tree.attrs["radius"])
    with style():
        columns = min(len(groups), 4)
        figure = new_figure(0.75 + 1.85 * -(-len(groups) // columns))
        panels = grid(figure, len(groups), columns)
        for index, (axes, group) in enumerate(zip(panels, groups, strict=True)):
            _add_ring(axes, tree, group, radius)
            axes.set_xlabel("x (parameter)")
            if index % columns == 0:
                axes.set_ylabel("y (parameter)")
        add_legend(figure, tree, panels[:1], columns=4)
    return figure


def _add_ring(axes: Axes, tree: xr.DataTree, group: str, radius: float) -> None:
    data = tree[group].dataset
    rested = data["converged"].values.astype(bool)
    points = data["params"].values[rested]
    angles = np.arctan2(points[:, 1], points[:, 0])
    counts, edges = np.histogram(angles, bins=_BARS, range=(-np.pi, np.pi))
    middles = (edges[1:] + edges[:-1]) / 2
    share = counts / max(len(rested), 1)
    # Shares and not densities; 0.8 radii for the largest share of this panel.
    height = 0.8 * radius * share / max(share.max(), 1e-12)
    directions = np.stack([np.cos(middles), np.sin(middles)], axis=1)
    for direction, length in zip(directions, height, strict=True):
        axes.plot(
            *(direction * np.array([[radius], [radius + length]])).T,
            color="C0",
            linewidth=2.2,
            solid_capstyle="butt",
            zorder=2,
            gid=f"{group}/share",
        )
    circle = np.linspace(0, 2 * np.pi, 241)
    axes.plot(
        radius * np.cos(circle),
        radius * np.sin(circle),
        color="0.45",
        linewidth=0.8,
        label="circle of minima",
        gid="circle",
    )
    axes.plot([], [], color="C0", linewidth=2.2, label=f"share of samples (of {len(rested)})")
    look = {"linestyle": "none", "marker": "o", "color": "black", "markersize": 1.8, "alpha": 0.5}
    axes.plot(*points.T, label="samples at rest", gid=f"{group}/params", zorder=3, **look)
    axes.plot(
        radius,
        0,
        linestyle="none",
        marker="D",
        color="white",
        markeredgecolor="black",
        markersize=5,
        label="start",
        zorder=5,
    )
    reach = 1.95 * radius
    title = f"speed {float(tree[group].attrs['speed']):g}"
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title)
    axes.grid(False)
    lost = int((~rested).sum())
    note = f"most: {100 * share.max():.0f}%" + (f"\n{lost} not at rest" if lost else "")
    axes.annotate(note, (-0.15 * radius, 0), ha="center", va="center", fontsize=7.5)


@figure("dims_energy", needs=Needs(study="dims_paths"))
def draw_energy(tree: xr.DataTree) -> Figure:
    """Energy against time for each friction law, over a linear and over a logarithmic time.

    Args:
        tree: results of the study `dims_paths`: groups with `total_energy` over `time`.

    Raises:
        ValueError: if there is none, or none that is above 0.
    """
    needs = "the variable 'total_energy' over 'time'"
    found = parts(tree, "dims_energy", needs, "total_energy")
    energies = {group: data["total_energy"].values for group, data in found.items()}
    positive = np.concatenate([values[values > 0] for values in energies.values()])
    if not positive.size:
        raise ValueError(
            "the figure 'dims_energy' has a logarithmic axis, and no energy of these results is "
            "above 0."
        )
    with style():
        figure = new_figure(3.6)
        panels = list(figure.subplots(1, 2, sharey=True))
        left_out = []
        for position, (group, energy) in enumerate(energies.items()):
            time = found[group]["time"].values
            look = look_of(position) | {"label": label_of(tree, group), "linewidth": 1.6}
            # Not a number leaves a gap, where a line through the points around it would hide it.
            shown = np.where(energy > 0, energy, np.nan)
            count = np.isnan(shown).sum()
            if count:
                left_out.append(f"{label_of(tree, group)}: {count} of {len(time)} times")
            marks = np.linspace(0, max(len(time) - count - 1, 0), 7).astype(int)[1:]
            for axes in panels:
                axes.plot(
                    time,
                    shown,
                    gid=f"{group}/total_energy",
                    marker=_MARKERS[position % len(_MARKERS)],
                    markevery=list(np.flatnonzero(energy > 0)[marks]) if count < len(time) else [],
                    **look,
                )
        time = next(iter(found.values()))["time"].values
        start = positive.max()
        late = time[time >= 0.1 * time[-1]]
        guide = 0.02 * start * (late[0] / late) ** 2
        panels[1].plot(late, guide, color="0.45", linewidth=1, label="slope −2", gid="guide")
        lowest = max(positive.min(), 1e-10 * start) / 2
        panels[0].set(yscale="log", ylim=(lowest, 3 * start))
        panels[1].set(xscale="log", xlim=(time[-1] / 200, 1.15 * time[-1]))
        if left_out:
            panels[0].annotate(
                "not drawn, energy at most 0:\n" + "\n".join(left_out),
                (0.03, 0.03),
                xycoords="axes fraction",
                fontsize=7.5,
                zorder=8,
            )
        x = str(tree.attrs.get("time_label", "time"))
        panels[0].set(xlabel=x, title="Logarithmic energy")
        panels[0].set_ylabel("energy, kinetic and potential\n(parameter² / time²)")
        panels[1].set(xlabel=x, title="Logarithmic energy and time")
        add_legend(figure, tree, panels, columns=5)
    return figure


@figure("dims_valley", needs=Needs(study="dims_paths"))
def draw_valley(tree: xr.DataTree) -> Figure:
    """The paths under each friction law over the loss's level sets.

    Args:
        tree: results of the study `dims_paths`: a group `landscape`, and groups with `params` over
            `time`.

    Raises:
        ValueError: if there is no landscape or no path.
    """
    needs = "a group 'landscape' and the variable 'params' (a study dims_paths)"
    found = parts(tree, "dims_valley", needs, "params", "total_energy")
    if LANDSCAPE not in tree.children:
        raise nothing_to_draw("dims_valley", needs, tree)
    landscape = tree[LANDSCAPE].dataset
    with style():
        figure = new_figure(4.8)
        axes = figure.add_subplot()
        axes.grid(False)
        add_level_sets(figure, axes, landscape)
        for position, (group, data) in enumerate(found.items()):
            points = data["params"].transpose("time", "parameter").values
            look = look_of(position)
            axes.plot(
                *points.T,
                label=label_of(tree, group),
                gid=f"{group}/params",
                linewidth=1.4,
                zorder=4,
                **look,
            )
            axes.plot(
                *points[-1],
                linestyle="none",
                color=look["color"],
                marker=_MARKERS[position % len(_MARKERS)],
                markeredgecolor="white",
                markersize=7,
                zorder=6,
                gid=f"{group}/end",
            )
        start = next(iter(found.values()))["params"].isel(time=0).values
        mark: dict[str, Any] = {"linestyle": "none", "color": "white", "markeredgecolor": "black"}
        axes.plot(*start, marker="*", markersize=11, label="start", zorder=7, **mark)
        x0, x1 = landscape["x0"].values, landscape["x1"].values
        axes.set(xlim=(x0.min(), x0.max()), ylim=(x1.min(), x1.max()))
        axes.set(xlabel="x (parameter)", ylabel="y (parameter)")
        add_legend(figure, tree, [axes], columns=3)
    return figure


@figure("dims_limit", needs=Needs(study="dims_limit"))
def draw_limit(tree: xr.DataTree) -> Figure:
    """Error against friction with its orders, and how the paths tend to the limit.

    Args:
        tree: results of the study `dims_limit`: groups with `error`, `params` and `limit`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with 'error' (a study dims_limit)"
    found = parts(tree, "dims_limit", needs, "error", "params", "limit")
    with style():
        figure = new_figure(3.7)
        panels = list(figure.subplots(1, 2))
        for position, (group, data) in enumerate(found.items()):
            gamma, error = data["friction"].values, data["error"].values
            look = look_of(position)
            # A store leaves out what is not a number.
            fitted = float(data.attrs.get("order", np.nan))
            name = label_of(tree, group) + (f": order {fitted:.2f}" if np.isfinite(fitted) else "")
            panels[0].plot(
                gamma,
                error,
                label=name,
                marker=_MARKERS[position],
                gid=f"{group}/error",
                markersize=5,
                **look,
            )
            if not (error > 0).any():
                continue
            order = float(data.attrs["predicted_order"])
            last = np.flatnonzero(error > 0)[-1]
            guide = 0.5 * error[last] * (gamma / gamma[last]) ** -order
            panels[0].plot(
                gamma, guide, color="0.45", linewidth=0.9, linestyle=":", gid=f"{group}/guide"
            )
            middle = len(gamma) // 2
            panels[0].annotate(
                f"slope −{order:g}",
                (gamma[middle], guide[middle]),
                xytext=(-3, -3),
                textcoords="offset points",
                fontsize=8,
                ha="right",
                va="top",
            )
        panels[0].set(xscale="log", yscale="log", title="Error of the limit")
        panels[0].set_xlabel("friction γ (1 / time)")
        panels[0].set_ylabel("distance from the limit\nat the end (parameter)")
        # A start with a velocity leaves the limit's path, one from rest may only be late on it.
        _add_limit_paths(panels[1], tree, list(found)[-1])
        add_legend(figure, tree, panels, columns=3)
    return figure


def _add_limit_paths(axes: Axes, tree: xr.DataTree, group: str) -> None:
    data = tree[group].dataset
    gamma, paths = data["friction"].values, data["params"].values
    chosen = range(0, len(gamma), max(1, len(gamma) // 3))
    shades = np.linspace(0.75, 0.35, len(chosen))
    for position, (index, shade) in enumerate(zip(chosen, shades, strict=True)):
        axes.plot(
            *paths[index].T,
            color=str(shade),
            linestyle=_LINE_STYLES[1 + position % 4],
            label=f"γ = {gamma[index]:g}",
            linewidth=1.5,
            gid=f"path/{gamma[index]:g}",
        )
    axes.plot(*data["limit"].values.T, color="black", linewidth=1.8, label="limit", gid="limit")
    axes.set(xlabel="x (parameter)", ylabel="y (parameter)")
    axes.set_title(f"Paths, {label_of(tree, group)}")
