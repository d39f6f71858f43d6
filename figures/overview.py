"""A run at a glance: loss, sharpness and distance over the same steps."""

import xarray as xr
from matplotlib.figure import Figure

from figures.curves import curves, draw_stack, nothing_to_draw
from figures.distance import add_distance
from figures.loss import add_loss
from figures.registry import Needs, figure
from figures.sharpness import add_preconditioned, add_sharpness

_PANELS = {
    "loss": add_loss,
    "sharpness": add_sharpness,
    "preconditioned_sharpness": add_preconditioned,
    "distance": add_distance,
}


@figure("overview", needs=Needs(several=True))
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
    return draw_stack(tree, 0.9 + 1.8 * len(present), [_PANELS[one] for one in present])
