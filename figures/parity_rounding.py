"""How an oscillation decays below rounding and comes back from it, in two precisions."""

from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves import nothing_to_draw
from figures.registry import Needs, figure
from figures.sheet import add_legend, color_of, new_figure, style

_GREY = "0.45"
# Dots: from step to step rounding errors come and go, and many differences are 0.
_DISCRETE: dict[str, Any] = {"color": _GREY, "linestyle": "none", "marker": ".", "markersize": 1.5}
_ONSET: dict[str, Any] = {"linewidth": 0.9, "linestyle": (0, (3, 2)), "zorder": 1}


def _add_precision(axes: Axes, group: str, data: xr.Dataset) -> None:
    """Draw |d| of gradient descent and of the flow, and mark both onsets."""
    steps, attrs = data["step"].values, data.attrs
    axes.plot(
        steps,
        data["oscillation"],
        label="gradient descent",
        gid=f"{group}/discrete",
        **_DISCRETE,
    )
    axes.plot(
        steps,
        data["half_difference_length"],
        color=color_of(0),
        zorder=3,
        label="parity flow with a source of that rounding",
        gid=f"{group}/flow",
    )
    onsets = {"onset": _GREY, "predicted_onset": color_of(0)}
    for name, color in onsets.items():
        axes.axvline(float(attrs[name]), color=color, gid=f"{group}/{name}", **_ONSET)
    label = str(attrs.get("label", group))
    axes.set_title(
        f"Steps in {label}: onset at {float(attrs['onset']):.0f}, "
        f"of the flow at {float(attrs['predicted_onset']):.0f}"
    )
    axes.set_yscale("log", nonpositive="mask")
    axes.set_ylabel("|d| (parameter)")


@figure("parity_rounding", needs=Needs(study="parity_rounding"))
def draw(tree: xr.DataTree) -> Figure:
    """The oscillation |d| of gradient descent and of its flow, a panel for each precision.

    Args:
        tree: results of the study `parity_rounding`: groups with the variables `oscillation` and
            `half_difference_length`, and the attributes `onset` and `predicted_onset`.

    Raises:
        ValueError: if there is none.
    """
    # The finer precision first.
    parts = {
        name: tree[name].to_dataset()
        for name in sorted(tree.children, reverse=True)
        if "oscillation" in tree[name].dataset and "predicted_onset" in tree[name].attrs
    }
    if not parts:
        needs = "groups with the attribute 'predicted_onset' (a study parity_rounding)"
        raise nothing_to_draw("parity_rounding", needs, tree)
    with style():
        figure = new_figure(1.2 + 2.1 * len(parts))
        panels = list(figure.subplots(len(parts), sharex=True, sharey=True, squeeze=False)[:, 0])
        for axes, (group, data) in zip(panels, parts.items(), strict=True):
            _add_precision(axes, group, data)
        panels[-1].set_xlabel("step")
        add_legend(figure, tree, panels, columns=2)
    return figure
