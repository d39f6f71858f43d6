"""How Central Flow's error for RMSProp falls with the learning rate, and where it does not."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw, parts
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style

_MARKERS = ("o", "s", "D", "^", "v", "P")
_REFERENCE = {"color": "0.35", "linewidth": 1.0, "linestyle": (0, (1, 1.5)), "zorder": 1.5}
_ORDER = 2


def _add_errors(axes: Axes, group: str, data: xr.Dataset, position: int) -> None:
    """Draw the errors of one flow: solid and filled if it should be of order 2."""
    published = not data.attrs["scalar"] and not data.attrs["alternation"]
    colour, eta = color_of(position), data["learning_rate"].values
    errors, b2 = data["error"].values, float(data.attrs["b2"])
    axes.plot(
        eta,
        errors,
        color=colour,
        linestyle="--" if published else "-",
        marker=_MARKERS[position % len(_MARKERS)],
        markersize=5.5,
        markerfacecolor="white" if published else colour,
        zorder=3 if published else 4,
        label=str(data.attrs["label"]),
        gid=f"{group}/error",
    )
    if published:
        share = errors[-1] * (1 + b2) / (1 - b2)
        axes.annotate(
            f"{share:.2f} (1 − b2)/(1 + b2)",
            (eta[-1], errors[-1]),
            xytext=(0, 6),
            textcoords="offset points",
            color="0.25",
            fontsize=8.5,
            gid=f"{group}/floor",
        )


@figure("adaptive_order", needs=Needs(study="adaptive_order"))
def draw(tree: xr.DataTree) -> Figure:
    """Errors against the learning rate on logarithmic axes, beside a line of slope 2.

    What remains of the published flow's error is given in units of (1 - b2)/(1 + b2). A colour and
    a marker belong to a method and a b2; the published flow of RMSProp is dashed, with open
    markers.

    Args:
        tree: results of the study `adaptive_order`: groups with `error` over the coordinate
            `learning_rate`, and the attributes `label`, `b2`, `scalar` and `alternation`.

    Raises:
        ValueError: if there is none.
    """
    needs = "groups with the variable 'error' over 'learning_rate' (a study adaptive_order)"
    everything = parts(tree, "adaptive_order", needs, "error", "learning_rate")
    found = {name: data for name, data in everything.items() if "alternation" in data.attrs}
    if not found:
        raise nothing_to_draw("adaptive_order", needs, tree)
    # One colour for a method and its b2, whichever of its flows are there.
    kinds = sorted({_kind(data) for data in found.values()}, reverse=True)
    with style():
        figure = new_figure(4.9)
        axes = figure.add_subplot()
        axes.set(xscale="log", yscale="log")
        ordered = sorted(found.items(), key=lambda one: (kinds.index(_kind(one[1])), one[0]))
        for group, data in ordered:
            _add_errors(axes, group, data, kinds.index(_kind(data)))
        rates = np.unique([data["learning_rate"].values for data in found.values()])
        least = min(float(data["error"].values.min()) for data in found.values())
        # Below all errors, so that slopes can be compared and no line is covered.
        reference = 0.4 * least * (rates / rates[0]) ** _ORDER
        axes.plot(rates, reference, label=f"slope {_ORDER}", gid="slope", **_REFERENCE)
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
        axes.set_xlabel("η, learning rate (parameter)")
        axes.set_ylabel("error of the midpoints\n(largest distance / displacement)")
        add_legend(figure, tree, [axes], columns=2)
    return figure


def _kind(data: xr.Dataset) -> tuple[int, float]:
    return int(data.attrs["scalar"]), float(data.attrs["b2"])
