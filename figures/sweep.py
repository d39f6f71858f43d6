"""One quantity of a sweep: curves over one swept key, or a map over two."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import DISCRETE, critical_label, nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style
from figures.swept import (
    SEED,
    axes_of,
    described,
    draw_categories,
    map_axes,
    name_of,
    positions,
    scale_of,
    set_log,
    swept,
)

_LINE_STYLES = ("--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
_MARKERS = ("s", "^", "D", "v", "P")
# A quantity that spans more than this factor is drawn on a logarithmic scale.
_LOG_RANGE = 30.0
_CRITICAL = "critical_sharpness"


@figure("sweep", needs=Needs(sweep=True))
def draw(tree: xr.DataTree) -> Figure:
    """Draw the quantity that the sweep's config names.

    Over one key each trajectory is a curve; an axis `seed` beside it becomes the mean with a band
    from the least to the largest. Over two keys each trajectory is a map. Sharpnesses have the
    critical one beside them: as a curve, or as the contour where the two are equal.

    Args:
        tree: results of a sweep.

    Raises:
        ValueError: if it has no such quantity, more than one number of it for a run and a
            trajectory, or more than two axes besides `seed`.
    """
    quantity = str(tree.attrs.get("quantity", ""))
    data = swept(tree, "sweep", quantity)
    over = axes_of(tree)
    further = [str(dim) for dim in data[quantity].dims if dim not in (*over, "trajectory")]
    if further:
        # Their mean would be one of unlike numbers: conclusions of a study, steps of a run.
        needs = f"one number for each run and trajectory; '{quantity}' has one for each"
        raise nothing_to_draw("sweep", f"{needs} {' and '.join(further)} too", tree)
    if len(over) > 1 and SEED in over and data[quantity].dtype.kind == "f":
        over = [axis for axis in over if axis != SEED]
    if len(over) > 2:
        needs = f"one or two swept axes besides '{SEED}'; there are {', '.join(over)}"
        raise nothing_to_draw("sweep", needs, tree)
    shown = [one for one in _trajectories(data, quantity) if _is_there(one[1])]
    if not shown:
        raise nothing_to_draw("sweep", f"a value of '{quantity}' in any run", tree)
    with style():
        if len(over) == 1:
            return _draw_curves(tree, data, quantity, over[0], shown)
        return _draw_maps(tree, data, quantity, over, shown)


def _trajectories(data: xr.Dataset, quantity: str) -> list[tuple[str, xr.DataArray]]:
    values = data[quantity]
    if "trajectory" not in values.dims:
        return [("", values)]
    labels = [str(label) for label in data["trajectory"].values]
    return [(label, values.isel(trajectory=i)) for i, label in enumerate(labels)]


def _has_threshold(tree: xr.DataTree, quantity: str) -> bool:
    """Whether the critical sharpness of these runs is one of the quantity."""
    variable = str(tree.attrs.get("critical_variable", "sharpness"))
    metric = "preconditioned"
    same = (metric in variable) == (metric in quantity)
    return bool(variable) and same and quantity.endswith(variable)


def _is_there(values: xr.DataArray) -> bool:
    if values.dtype.kind not in "if":
        return True
    return bool(np.isfinite(values.values.astype(float)).any())


def _draw_curves(
    tree: xr.DataTree,
    data: xr.Dataset,
    quantity: str,
    axis: str,
    shown: list[tuple[str, xr.DataArray]],
) -> Figure:
    figure = new_figure(3.8)
    axes = figure.add_subplot()
    x, names = positions(data, axis)
    for position, (label, values) in enumerate(shown):
        _draw_curve(axes, x, values.transpose(axis, ...).values, label, position)
    if _has_threshold(tree, quantity) and _CRITICAL in data and quantity != _CRITICAL:
        critical = data[_CRITICAL].transpose(axis, ...).values
        critical = _mean(critical.reshape(len(critical), -1))
        symbol = critical_label(tree)
        look: dict[str, Any] = {"color": "0.3", "linestyle": (0, (3, 2)), "linewidth": 1.0}
        if np.isfinite(critical).any():  # Not every optimizer has one.
            axes.plot(x, critical, label=f"critical sharpness, {symbol}", gid="critical", **look)
    if names:
        axes.set_xticks(x, names)
    elif scale_of(tree, axis) == "log" or (x.min() > 0 and x.max() > _LOG_RANGE * x.min()):
        set_log(axes.xaxis, x)
    drawn = np.concatenate([np.ravel(line.get_ydata()) for line in axes.get_lines()])
    drawn = drawn[np.isfinite(drawn)]
    if drawn.size and drawn.min() > 0 and drawn.max() > _LOG_RANGE * drawn.min():
        axes.set_yscale("log")
    axes.set(xlabel=name_of(tree, axis), ylabel=described(data[quantity]))
    add_legend(figure, tree, [axes])
    return figure


def _draw_curve(axes: Axes, x: np.ndarray, values: np.ndarray, label: str, position: int) -> None:
    """Draw one trajectory; with several seeds, their mean and a band of all."""
    name = "discrete optimizer" if label == DISCRETE else label.replace("_", " ")
    look = _look(label, position)
    if values.dtype.kind not in "if":
        axes.plot(x, values.astype(str), label=name or "runs", gid=f"{label}/curve", **look)
        return
    rows = values.reshape(len(values), -1).astype(float)
    finite = np.isfinite(rows)
    count = finite.sum(axis=1)
    axes.plot(x, _mean(rows), label=name or "runs", gid=f"{label}/curve", **look)
    if rows.shape[1] > 1:
        low = np.where(count > 0, np.where(finite, rows, np.inf).min(axis=1), np.nan)
        high = np.where(count > 0, np.where(finite, rows, -np.inf).max(axis=1), np.nan)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what is finite; nan where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(axis=-1)
    total = np.where(finite, values, 0).sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _look(label: str, position: int) -> dict[str, Any]:
    if label in (DISCRETE, ""):
        return {"color": "black", "marker": "o", "linestyle": "-", "linewidth": 1.0}
    return {
        "color": color_of(position - 1),
        "linestyle": _LINE_STYLES[(position - 1) % len(_LINE_STYLES)],
        "marker": _MARKERS[(position - 1) % len(_MARKERS)],
    }


def _draw_maps(
    tree: xr.DataTree,
    data: xr.Dataset,
    quantity: str,
    over: list[str],
    shown: list[tuple[str, xr.DataArray]],
) -> Figure:
    figure = new_figure(1.2 + 3.0 * len(shown))
    panels = np.atleast_1d(figure.subplots(len(shown), squeeze=True))
    title = str(tree.attrs.get("title") or "") or None
    handles: list[Any] = []
    for axes, (label, values) in zip(panels, shown, strict=True):
        borders = map_axes(axes, tree, data, over)
        if label and len(shown) > 1:
            axes.set_title("discrete optimizer" if label == DISCRETE else label.replace("_", " "))
        if values.dtype.kind not in "if":
            words = values.transpose(*over, ...).values
            handles = draw_categories(axes, borders, words)
            continue
        _draw_map(figure, axes, tree, data, values, quantity, over, borders)
    if handles:
        figure.legend(
            *zip(*handles, strict=True),
            loc="outside upper left",
            ncols=4,
            title=title,
            alignment="left",
        )
    else:
        figure.suptitle(title or "", x=0.01, ha="left")
    return figure


def _draw_map(
    figure: Figure,
    axes: Axes,
    tree: xr.DataTree,
    data: xr.Dataset,
    values: xr.DataArray,
    quantity: str,
    over: list[str],
    borders: Any,
) -> None:
    numbers = values.transpose(*over, ...).values.astype(float)
    mean = _mean(numbers.reshape(*numbers.shape[:2], -1))
    positive = mean[np.isfinite(mean)]
    wide = positive.min() > 0 and positive.max() > _LOG_RANGE * positive.min()
    mesh = axes.pcolormesh(
        *borders,
        mean.T,
        norm="log" if wide else "linear",
        cmap="cividis",
        gid="map",
        rasterized=True,
    )
    # White is no value of the colour map: runs that have no such number.
    axes.set_facecolor("white")
    figure.colorbar(mesh, ax=axes, label=described(data[quantity]))
    if _has_threshold(tree, quantity) and _CRITICAL in data and min(mean.shape) > 1:
        critical = data[_CRITICAL].transpose(*over, ...).values
        critical = _mean(critical.reshape(*critical.shape[:2], -1))
        x, y = (positions(data, axis)[0] for axis in over)
        ratio = mean / critical
        inside = ratio[np.isfinite(ratio)]
        if inside.size and inside.min() < 1 < inside.max():
            lines = axes.contour(x, y, ratio.T, levels=[1.0], colors="#B2182B", linestyles="--")
            axes.clabel(lines, fmt={1.0: "critical"})
