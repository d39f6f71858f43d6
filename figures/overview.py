"""A run at a glance: loss, sharpness and distance over the same steps."""

import xarray as xr
from matplotlib.figure import Figure

from figures.curves import curves, nothing_to_draw
from figures.distance import add_distance
from figures.loss import add_loss
from figures.registry import figure
from figures.sharpness import add_sharpness
from figures.sheet import add_legend, new_figure, style

_PANELS = {"loss": add_loss, "sharpness": add_sharpness, "distance": add_distance}


@figure("overview")
def draw(tree: xr.DataTree) -> Figure:
    """One panel each for loss, sharpness (with 2/eta) and distance, as far as they are there.

    Args:
        tree: results with at least one of the variables `loss`, `sharpness` and `distance`.

    Raises:
        ValueError: if there is none of them.
    """
    present = [variable for variable in _PANELS if curves(tree, variable)]
    if not present:
        needs = "at least one of the variables 'loss', 'sharpness' and 'distance'"
        raise nothing_to_draw("overview", needs, tree)
    with style():
        figure = new_figure(0.9 + 1.8 * len(present))
        panels = list(figure.subplots(len(present), sharex=True, squeeze=False)[:, 0])
        for axes, variable in zip(panels, present, strict=True):
            _PANELS[variable](axes, tree)
            axes.label_outer()
        figure.align_ylabels(panels)
        add_legend(figure, tree, panels)
    return figure
