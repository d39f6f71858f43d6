"""How the parity flow's error falls with the slowness of the motion, order by order."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style

_MARKERS = ("o", "s", "D", "^")
_MIDPOINTS = {"color": "0.55", "linewidth": 0.9, "linestyle": (0, (4, 2)), "zorder": 2}
_REFERENCE = {"color": "0.35", "linewidth": 0.9, "linestyle": (0, (1, 1.5)), "zorder": 1.5}


def _add_order(axes: Axes, group: str, data: xr.Dataset, position: int) -> None:
    """Draw the errors of one order, and beside them its power of the slowness."""
    order, slowness = int(data.attrs["order"]), data["slowness"].values
    errors = data["iterate_error"].values
    slope = np.log(errors[-2] / errors[-1]) / np.log(slowness[-2] / slowness[-1])
    axes.plot(
        slowness,
        errors,
        color=color_of(position),
        marker=_MARKERS[position % len(_MARKERS)],
        markersize=5,
        zorder=4,
        label=f"order {order} (last slope {slope:.2f})",
        gid=f"{group}/iterates",
    )
    # From the smallest slowness, where the errors are closest to their power law.
    reference = errors[-1] * (slowness / slowness[-1]) ** order
    axes.plot(slowness, reference, label="_slope", gid=f"{group}/slope", **_REFERENCE)
    axes.annotate(
        f"slope {order}",
        (slowness[0], reference[0]),
        xytext=(5, 0),
        textcoords="offset points",
        verticalalignment="center",
        color="0.35",
    )


@figure("parity_order", needs=Needs(study="parity_order"))
def draw(tree: xr.DataTree) -> Figure:
    """Errors of the predicted iterates against the slowness on logarithmic axes.

    Beside each order's errors is a line of that slope. The distance of the centre from midpoints is
    drawn thin, for the highest order: midpoints are a filter of second order.

    Args:
        tree: results of the study `parity_order`: groups with the coordinate `slowness`, the
            variables `iterate_error` and `tracking_error` and the attribute `order`.

    Raises:
        ValueError: if there is none.
    """
    found = {
        name: child.to_dataset()
        for name, child in tree.children.items()
        if "iterate_error" in child.dataset and "slowness" in child.coords
    }
    if not found:
        needs = "groups with the variable 'iterate_error' (a study parity_order)"
        raise nothing_to_draw("parity_order", needs, tree)
    parts = dict(sorted(found.items(), key=lambda item: int(item[1].attrs["order"])))
    with style():
        figure = new_figure(4.9)
        axes = figure.add_subplot()
        axes.set(xscale="log", yscale="log")
        for position, (group, data) in enumerate(parts.items()):
            _add_order(axes, group, data, position)
        group, data = list(parts.items())[-1]
        name = f"order {int(data.attrs['order'])}, error of the midpoints"
        axes.plot(
            data["slowness"],
            data["tracking_error"],
            label=name,
            gid=f"{group}/midpoints",
            **_MIDPOINTS,
        )
        axes.set_xlabel("√ε, slowness of the motion (√(loss / parameter))")
        axes.set_ylabel("error of the iterates\n(mean distance / mean displacement)")
        add_legend(figure, tree, [axes], columns=2)
    return figure
