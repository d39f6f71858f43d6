"""The sharpness of each group of parameters, beside that of all."""

import xarray as xr
from matplotlib.figure import Figure

from figures import curves
from figures.registry import Needs, figure
from figures.sharpness import add_critical
from figures.sheet import add_legend, new_figure, style

_NAME = "group_sharpness"


def _of_groups(tree: xr.DataTree, group: str) -> list[curves.Curve]:
    """The curves of one trajectory, a colour for each group of parameters, and the sharpness."""
    data = tree[group].dataset
    count = data.sizes.get("group", 0)
    names = data.attrs.get("groups", [f"group {place + 1}" for place in range(count)])
    drawn = []
    for place, name in enumerate(names):
        one = curves.curve(tree, group, _NAME, group=place)
        if one is not None:
            look = {**curves.look_at(place), "linewidth": 1.3}
            drawn.append(curves.Curve(f"{one.name}/{place}", name, one.steps, one.values, look))
    whole = curves.curve(tree, group, "sharpness")
    if drawn and whole is not None:
        look = {"color": "black", "linewidth": 0.9, "alpha": 0.65, "zorder": 2}
        drawn.append(curves.Curve(whole.name, "all parameters", whole.steps, whole.values, look))
    return drawn


@figure("group_sharpness", needs=Needs(measurement="group_sharpness"))
def draw(tree: xr.DataTree) -> Figure:
    """The sharpness of the loss as a function of each group of parameters, over the steps.

    One panel for each trajectory that has it, a colour for each group. The black curve is the
    sharpness of all parameters, where that is measured, and bounds the others; the dashed line is
    the critical sharpness.

    Args:
        tree: results of an experiment with `[[measurements]]` of kind "group_sharpness"; the
            attribute `groups` of a trajectory names the groups.

    Raises:
        ValueError: if no trajectory has the sharpness of a group.
    """
    with style():
        found = {name: _of_groups(tree, name) for name in curves.groups(tree)}
        found = {name: drawn for name, drawn in found.items() if drawn}
        if not found:
            raise curves.nothing_to_draw(_NAME, f"a table [[measurements]] of kind {_NAME!r}", tree)
        every = [one for drawn in found.values() for one in drawn]
        sheet = new_figure(1.2 + 2.3 * len(found))
        panels = list(sheet.subplots(len(found), sharex=True, sharey=True, squeeze=False)[:, 0])
        include: list[float] = []
        for axes, (name, drawn) in zip(panels, found.items(), strict=True):
            curves.add_curves(axes, drawn)
            include += add_critical(axes, tree)
            axes.set_title(curves.label_of(tree, name))
            curves.label_axes(axes, tree, "sharpness of a group", _NAME)
            axes.label_outer()
        if curves.wants_log(every):
            panels[0].set_yscale("log", nonpositive="mask")
        # One scale for all panels, so that trajectories can be compared.
        curves.set_limits(panels[0], every, diverged=curves.has_diverged(tree), include=include)
        sheet.align_ylabels(panels)
        add_legend(sheet, tree, panels)
    return sheet
