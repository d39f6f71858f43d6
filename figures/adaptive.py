"""An adaptive method and its flows: loss, both sharpnesses, effective learning rate, distance."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import curves
from figures.central import add_distances, add_losses, hide_from_legend
from figures.registry import Needs, figure
from figures.sharpness import add_preconditioned, add_sharpness, critical_sharpness

# Times the critical value: what rises further, as the stable flow, has left the optimizer.
_HIGHEST = 2.5


def _add_preconditioned(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw the preconditioned sharpness, cut where a flow has left the edge far below it."""
    if not add_preconditioned(axes, tree):
        return False
    hide_from_legend(axes)
    _, thresholds = critical_sharpness(tree)
    critical = float(thresholds.max()) if thresholds.size else np.nan
    low, high = axes.get_ylim()
    cut = np.isfinite(critical) and high > _HIGHEST * critical
    axes.set_ylim(max(low, 0), _HIGHEST * critical if cut else high)
    where = f", shown to {_HIGHEST:g} times its threshold" if cut else ""
    axes.set_title(f"Preconditioned sharpness, of P⁻¹H{where}")
    return True


def _add_sharpness(axes: Axes, tree: xr.DataTree) -> bool:
    if not add_sharpness(axes, tree):
        return False
    hide_from_legend(axes)
    axes.set_title("Sharpness, the largest eigenvalue of H, which has no threshold")
    return True


def _add_rates(axes: Axes, tree: xr.DataTree) -> bool:
    """Draw the harmonic mean of the effective learning rates."""
    name = "effective_learning_rate"
    drawn = curves.curves(tree, name)
    if not drawn:
        return False
    curves.add_panel(axes, tree, name, drawn, log=True)
    hide_from_legend(axes)
    curves.label_axes(axes, tree, "learning rate", name)
    axes.set_title("Effective learning rate: the harmonic mean of η / P over the parameters")
    return True


_PANELS = {
    "loss": add_losses,
    "preconditioned_sharpness": _add_preconditioned,
    "sharpness": _add_sharpness,
    "effective_learning_rate": _add_rates,
    "distance": add_distances,
}


@figure("adaptive", needs=Needs(curvature=True))
def draw(tree: xr.DataTree) -> Figure:
    """Loss, sharpness of H and of P^-1 H, effective learning rate and distances.

    Beside the optimizer, such as RMSProp or Adam, are the flows that model it. What a flow does not
    know, as gradient flow does not know P, is left out of its panel.

    Args:
        tree: results of an experiment with an adaptive method and `[curvature]`.

    Raises:
        ValueError: if there is no preconditioned sharpness.
    """
    if not curves.has(tree, "preconditioned_sharpness"):
        needs = "an adaptive optimizer and [curvature], for 'preconditioned_sharpness'"
        raise curves.nothing_to_draw("adaptive", needs, tree)
    present = [name for name in _PANELS if curves.has(tree, name)]
    adds = [_PANELS[name] for name in present]
    return curves.draw_stack(tree, 1.6 + 2.0 * len(present), adds, columns=2)
