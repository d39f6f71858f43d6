"""RMSProp and its flows at the edge of stability, on the turned valley."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, new_figure, style

_OPTIMIZER: dict[str, Any] = {"color": "black", "alpha": 0.65, "linewidth": 0.9, "zorder": 2}
# Dashed as published, solid with what is ours; those that agree are told apart by their width.
_FLOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "stable": ("stable flow", {"color": "C4", "linestyle": (0, (1, 1))}),
    "central": ("Central Flow, published", {"color": "C0", "linestyle": (0, (4, 2))}),
    "central_alternation": (
        "Central Flow, alternation",
        {"color": "C0", "linewidth": 3.6, "alpha": 0.5},
    ),
    "rod": ("Rod Flow, published", {"color": "C1", "linestyle": (0, (4, 1, 1, 1))}),
    "rod_alternation": ("Rod Flow, alternation", {"color": "C1", "linewidth": 1.2}),
}
# In units of the critical sharpness, the ends of its axis; stable flow soon runs off it.
_LOWEST, _HIGHEST = 0.5, 2.0
_TITLES = {"scalar_rmsprop": "scalar RMSProp", "rmsprop": "RMSProp"}


def _add_column(column: list[Axes], data: xr.Dataset, group: str, critical: float) -> None:
    """Draw an optimizer and its flows: the height, the sharpness, the distances."""
    height, sharpness, distance = column
    step, quantity = data["step"].values, "preconditioned_sharpness"
    gid = f"{group}/discrete"
    label = "optimizer (midpoints; sharpness at iterates)"
    # Above the flows, with which it may agree.
    above: dict[str, Any] = {**_OPTIMIZER, "zorder": 5}
    height.plot(step, data["midpoint_height"], label=label, gid=f"{gid}/height", **above)
    values = data["iterate_sharpness"]
    sharpness.plot(step, values, label="_optimizer", gid=f"{gid}/{quantity}", **_OPTIMIZER)
    look: dict[str, Any] = {"color": "black", "linewidth": 1.0, "linestyle": (0, (4, 3))}
    sharpness.axhline(critical, label="2/η", zorder=1.5, gid=f"{group}/critical", **look)
    for position, name in enumerate(map(str, data["flow"].values)):
        one, (label, look) = data.sel(flow=name), _FLOWS[name]
        for axes, variable in ((height, "height"), (sharpness, quantity), (distance, "distance")):
            # The iterate at step 0 has no midpoint of three.
            here = slice(1, None) if variable == "distance" else slice(None)
            axes.plot(
                step[here],
                one[variable].values[here],
                label=label,
                gid=f"{group}/{name}/{variable}",
                zorder=3 + 0.1 * position,
                **look,
            )
    distance.set_yscale("log", nonpositive="mask")
    sharpness.set_ylim(_LOWEST * critical, _HIGHEST * critical)
    height.set_title(_TITLES.get(_label(data), _label(data)))
    distance.set_xlabel("step (optimizer steps)")


@figure("adaptive_valley", needs=Needs(study="adaptive_valley"))
def draw(tree: xr.DataTree) -> Figure:
    """The height along the valley, the preconditioned sharpness and distances, per optimizer.

    The axes of the heights and of the sharpness end above the flows that stay at the edge: stable
    flow runs off them. The optimizer's sharpness is that at its iterates, on both sides of the
    floor.

    Args:
        tree: results of the study `adaptive_valley`: groups with `height`, `distance` and
            `preconditioned_sharpness` over the coordinates `flow` and `step`, and
            `midpoint_height` and `iterate_sharpness` of the optimizer.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with the variable 'midpoint_height' (a study adaptive_valley)"
    found = parts(tree, "adaptive_valley", needs, "midpoint_height", "iterate_sharpness")
    # Scalar RMSProp first.
    groups = sorted(found, key=lambda group: _label(found[group]), reverse=True)
    critical = float(tree.attrs["critical_sharpness"])
    with style():
        figure = new_figure(7.2)
        panels = figure.subplots(3, len(groups), sharex=True, sharey="row", squeeze=False)
        for column, group in zip(panels.T, groups, strict=True):
            _add_column(list(column), found[group], group, critical)
        names = ("y, along the valley\n(parameter)", "preconditioned\nsharpness (1 / parameter)")
        panels[0, 0].set_ylim(*_heights(found))
        for axes, name in zip(panels[:, 0], (*names, "distance\n(parameter)"), strict=True):
            axes.set_ylabel(name)
        figure.align_ylabels(panels[:, 0])
        add_legend(figure, tree, list(panels.flat), columns=2)
    return figure


def _label(data: xr.Dataset) -> str:
    return str(data.attrs["label"])


def _heights(found: Mapping[str, xr.Dataset]) -> tuple[float, float]:
    """Return limits of the axis of heights that all but stable flow fit in."""
    seen = [data["midpoint_height"].values for data in found.values()]
    for data in found.values():
        seen.append(data["height"].where(data["flow"] != "stable").values.ravel())
    low, high = np.nanmin(np.concatenate(seen)), np.nanmax(np.concatenate(seen))
    margin = 0.08 * (high - low)
    return float(low - margin), float(high + margin)
